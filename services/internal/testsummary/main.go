// Command testsummary turns the output of `go test -json` into what a person
// wants to read: a line for each package, the whole output of what failed, the
// slowest tests, and a closing line of counts. It fails where no test ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

type slow struct {
	name    string
	elapsed float64
}

type summary struct {
	out                     io.Writer
	output                  map[string][]string
	failedTests             map[string]bool
	passed, failed, skipped int
	slowest                 []slow
	skippedNames            []string
}

func main() {
	s := &summary{out: os.Stdout, output: map[string][]string{}, failedTests: map[string]bool{}}
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
		os.Exit(1)
	}
	if !s.close() {
		os.Exit(1)
	}
}

func (s *summary) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(s.out, lines.Text()) // what go itself says
			continue
		}
		s.add(e)
	}
	return lines.Err()
}

func (s *summary) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		s.output[key] = append(s.output[key], e.Output)
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e)
			return
		}
		s.endTest(e, key)
	}
}

func (s *summary) endTest(e event, key string) {
	switch e.Action {
	case "pass":
		s.passed++
		s.slowest = append(s.slowest, slow{e.Package + " " + e.Test, e.Elapsed})
		delete(s.output, key)
	case "skip":
		s.skipped++
		s.skippedNames = append(s.skippedNames, e.Test+": "+reason(s.output[key]))
		delete(s.output, key)
	case "fail":
		s.failed++
		s.failedTests[key] = true
	}
}

// reason is the text of a skip, less its place.
func reason(output []string) string {
	for _, l := range output {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "===") && !strings.HasPrefix(l, "---") {
			return l
		}
	}
	return ""
}

func (s *summary) endPackage(e event) {
	if e.Action != "fail" {
		if e.Action == "pass" {
			fmt.Fprintf(s.out, "ok    %-70s %6.1fs\n", short(e.Package), e.Elapsed)
		}
		return
	}
	fmt.Fprintf(s.out, "FAIL  %-70s %6.1fs\n", short(e.Package), e.Elapsed)
	found := false
	for key, out := range s.output {
		if strings.HasPrefix(key, e.Package+" ") {
			found = found || s.failedTests[key]
			fmt.Fprint(s.out, strings.Join(out, ""))
		}
	}
	if !found {
		s.failed++ // it did not build, a leak was found, or it ended early
	}
}

func short(pkg string) string {
	_, rest, ok := strings.Cut(pkg, "/connector/")
	if !ok {
		return pkg
	}
	return rest
}

// close prints the closing lines and tells whether all is well.
func (s *summary) close() bool {
	slices.SortFunc(s.slowest, func(a, b slow) int {
		switch {
		case a.elapsed > b.elapsed:
			return -1
		case a.elapsed < b.elapsed:
			return 1
		}
		return 0
	})
	fmt.Fprintln(s.out, "\nslowest:")
	for _, t := range s.slowest[:min(5, len(s.slowest))] {
		fmt.Fprintf(s.out, "  %6.1fs  %s\n", t.elapsed, short(t.name))
	}
	for _, n := range s.skippedNames {
		fmt.Fprintln(s.out, "skipped:", n)
	}
	fmt.Fprintf(s.out, "\ntests: %d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	return s.failed == 0 && s.passed > 0
}
