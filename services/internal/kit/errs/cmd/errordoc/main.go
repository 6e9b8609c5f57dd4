// Command errordoc writes the catalogue of errors as Markdown.
package main

import (
	"fmt"
	"os"

	"github.com/axpchat/connector/services/internal/kit/errs"
)

func main() {
	if err := errs.WriteCatalogue(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "errordoc:", err)
		os.Exit(1)
	}
}
