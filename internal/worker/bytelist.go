package worker

import (
	"io"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// listBegin and listEnd are what faas.AppendRequest writes around the list of bytes.
const listBegin, listEnd = `{"job_id":0,"args":[`, `]}`

// listChunk is how many bytes are converted to JSON at a time.
const listChunk = 8 << 10

// WriteByteList writes b as the numbers of a JSON list, without its brackets. It writes in chunks:
// as a whole the numbers would take up to four times the memory of b.
func WriteByteList(w io.Writer, b []byte) error {
	text := make([]byte, 0, faas.MaxRequestSize(min(len(b), listChunk))+1)
	for first := true; len(b) > 0; first = false {
		n := min(len(b), listChunk)
		text = faas.AppendRequest(append(text[:0], ','), 0, b[:n])
		from := 1 + len(listBegin)
		if !first {
			from--
			text[from] = ',' // instead of the bracket
		}
		if _, err := w.Write(text[from : len(text)-len(listEnd)]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// ByteListSize returns how many bytes WriteByteList writes.
func ByteListSize(b []byte) (n int) {
	for _, c := range b {
		n += digits[c]
	}
	return n + max(len(b)-1, 0)
}

// digits has the number of digits of each byte.
var digits = func() (d [256]int) {
	for c := range d {
		d[c] = 1
		if c > 9 {
			d[c]++
		}
		if c > 99 {
			d[c]++
		}
	}
	return d
}()

// writeRequest writes the JSON of an invocation as faas.AppendRequest does.
func writeRequest(w io.Writer, jobID uint32, args []byte) error {
	text := faas.AppendRequest(nil, jobID, nil)
	begin, end := text[:len(text)-len(listEnd)], text[len(text)-len(listEnd):]
	if _, err := w.Write(begin); err != nil {
		return err
	}
	if err := WriteByteList(w, args); err != nil {
		return err
	}
	_, err := w.Write(end)
	return err
}
