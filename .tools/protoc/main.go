// Command protodeps writes the third-party .proto files that the project's own
// protos import, printed from the descriptors inside the Go modules of go.mod,
// so that their versions are always those that the services are built with.
// Usage: protodeps DIRECTORY.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	_ "google.golang.org/genproto/googleapis/api/annotations"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: protodeps DIRECTORY")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "protodeps:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	written := map[string]bool{}
	for _, root := range []string{"buf/validate/validate.proto", "google/api/annotations.proto"} {
		fd, err := protoregistry.GlobalFiles.FindFileByPath(root)
		if err != nil {
			return fmt.Errorf("find %s: %w", root, err)
		}
		if err := write(dir, fd, written); err != nil {
			return err
		}
	}
	return nil
}

// write prints fd and, first, what it imports; the well-known types come with buf.
func write(dir string, fd protoreflect.FileDescriptor, written map[string]bool) error {
	if written[fd.Path()] || strings.HasPrefix(fd.Path(), "google/protobuf/") {
		return nil
	}
	written[fd.Path()] = true
	imports := fd.Imports()
	for i := range imports.Len() {
		if err := write(dir, imports.Get(i).FileDescriptor, written); err != nil {
			return err
		}
	}
	path := filepath.Join(dir, filepath.FromSlash(fd.Path()))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	printer := protoprint.Printer{}
	if err := printer.PrintProtoFile(fd, f); err != nil {
		return fmt.Errorf("print %s: %w", fd.Path(), err)
	}
	return f.Close()
}
