// Command closedoc writes the table of close codes as Markdown.
package main

import (
	"fmt"
	"os"

	"github.com/axpchat/connector/services/gateway/internal/stream"
)

func main() {
	if err := stream.WriteCloses(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "closedoc:", err)
		os.Exit(1)
	}
}
