//go:build !unix

package job

import (
	"io"
	"os"
)

// takeStreams takes stdin and stdout from the program: os.Stdin then reads as empty, and what it
// prints to os.Stdout goes to stderr. Unlike on Unix, this does not cover code that uses the
// handles below package os.
func takeStreams() (io.Reader, io.Writer, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	in, out := os.Stdin, os.Stdout
	os.Stdin, os.Stdout = null, os.Stderr
	return in, out, nil
}
