package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// maxFile bounds the size of a ledger that is read, in bytes. Compaction keeps ledgers far below.
const maxFile = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendLine appends an entry as a line: the CRC-32C of the JSON in 8 hex digits, a space, the JSON
// and a newline.
func appendLine(dst []byte, e entry) ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(dst, "%08x %s\n", crc32.Checksum(text, castagnoli), text), nil
}

func parseLine(line []byte) (entry, error) {
	var e entry
	if len(line) < 9 || line[8] != ' ' {
		return e, fmt.Errorf("no checksum")
	}
	sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
	if err != nil {
		return e, fmt.Errorf("no checksum")
	}
	if got := crc32.Checksum(line[9:], castagnoli); uint64(got) != sum {
		return e, fmt.Errorf("checksum %08x, computed %08x", sum, got)
	}
	if err := json.Unmarshal(line[9:], &e); err != nil {
		return e, err
	}
	return e, nil
}

// parse replays a ledger's text. whole is the length of the text without a last line that a crash
// cut off. parse refuses text that is damaged in any other way, because each synced line records
// something that may exist. It also refuses text that a newer version wrote.
func parse(path string, text []byte) (rec Record, lines int, whole int64, err error) {
	rec.Units = map[string]Unit{}
	for rest := text; len(rest) > 0; {
		line, after, complete := bytes.Cut(rest, []byte{'\n'})
		last := !complete || len(after) == 0
		e, err := parseLine(line)
		if err != nil || !complete {
			if last && lines > 0 && (!complete || bytes.IndexByte(line, 0) >= 0) {
				rec.renameOptions()
				return rec, lines, whole, nil // a crash interrupted its writing
			}
			if last && len(text) < 4096 && !complete {
				return Record{Units: map[string]Unit{}}, 0, 0, nil // the crash interrupted the very first line
			}
			return rec, 0, 0, damaged(path, "line %d: %w", lines+1, err)
		}
		if lines == 0 {
			if e.Header == nil {
				return rec, 0, 0, damaged(path, "line 1 is not a header")
			}
			if e.Header.Format > Format {
				return rec, 0, 0, faas.Errorf(faas.ErrUnsupported, "read ledger", "",
					"%s has format %d, written by a newer version of this library; this one reads up to %d: use the newer one", path,
					e.Header.Format, Format)
			}
			rec.Service, rec.Provider = e.Header.Service, e.Header.Provider
		} else {
			rec.apply(e)
		}
		lines++
		whole += int64(len(line)) + 1
		rest = after
	}
	rec.renameOptions()
	return rec, lines, whole, nil
}

func damaged(path, format string, args ...any) error {
	return faas.Errorf(faas.ErrInternal, "read ledger", "",
		"%s is damaged (%w): nothing was changed; compare it with what the provider holds, then repair or move the file",
		path, fmt.Errorf(format, args...))
}

func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // opening a FIFO must not wait for a writer
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, damaged(path, "it is not a regular file"))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		return nil, damaged(path, "it has more than %d bytes", maxFile)
	}
	return text, err
}
