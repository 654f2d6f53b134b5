package cli

import (
	"os"

	"golang.org/x/term"
)

// terminalWidth returns a function that tells how many columns f has; nil where f is no terminal.
func terminalWidth(f *os.File) func() int {
	if !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func() int {
		width, _, err := term.GetSize(int(f.Fd()))
		if err != nil || width < 1 {
			return 80
		}
		return width
	}
}
