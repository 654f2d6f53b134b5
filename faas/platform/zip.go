package platform

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/zip"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// bootstrap is the file of a package that runs.
const bootstrap = "bootstrap"

const (
	// maxDirectory bounds the zip's directory, which is read into memory.
	maxDirectory = 8 << 20
	// maxRatio bounds how many times larger than the zip the files may be, from ratioFrom on.
	maxRatio  = 100
	ratioFrom = 16 << 20
	// maxName is the longest path in a zip, and maxPart the longest name between two slashes, as on
	// most file systems.
	maxName = 1024
	maxPart = 255
)

// archive is a zip whose directory has been checked.
type archive struct {
	files    []*zip.File
	unpacked int64
	binary   int64 // size of bootstrap
}

func badZip(format string, args ...any) error {
	return notRunError(faas.ErrInvalidArgument, "deploy", "the zip is refused: "+format, args...)
}

// openArchive reads and checks the directory of a zip. unpack enforces everything that it claims
// once more.
func openArchive(r io.ReaderAt, size int64, l *Limits) (*archive, error) {
	if err := checkDirectory(r, size, l.MaxFiles); err != nil {
		return nil, err
	}
	zr, err := zip.NewReader(r, size)
	if err != nil {
		return nil, badZip("%w", err)
	}
	if len(zr.File) > l.MaxFiles {
		return nil, badZip("%d entries, the limit is %d", len(zr.File), l.MaxFiles)
	}
	a := &archive{files: zr.File}
	var main *zip.File
	seen := make(map[string]bool, len(zr.File)) // name -> is a directory
	limit := uint64(l.MaxUnpackedMB) << 20
	var total uint64
	for _, f := range zr.File {
		name, err := checkEntry(f)
		if err != nil {
			return nil, err
		}
		isDir := f.Mode().IsDir()
		if wasDir, twice := seen[name]; twice && !(isDir && wasDir) {
			return nil, badZip("%.200q is in it twice", name)
		}
		seen[name] = isDir
		if f.UncompressedSize64 > limit || total+f.UncompressedSize64 > limit {
			return nil, notRunError(faas.ErrTooLarge, "deploy", "the files in the zip are larger than %d MiB, the limit",
				l.MaxUnpackedMB)
		}
		total += f.UncompressedSize64
		if name == bootstrap {
			main = f
		}
	}
	for name := range seen {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if isDir, ok := seen[dir]; ok && !isDir {
				return nil, badZip("%.200q is a file and has %.200q below it", dir, name)
			}
		}
	}
	a.unpacked = int64(total)
	switch {
	case total > ratioFrom && total > maxRatio*uint64(size):
		return nil, badZip("its files are more than %d times larger than it", maxRatio)
	case main == nil:
		return nil, badZip("it has no file named %s at its root", bootstrap)
	case !main.Mode().IsRegular():
		return nil, badZip("%s is no regular file", bootstrap)
	case main.Mode()&0o111 == 0:
		return nil, badZip("%s is not executable (its mode in the zip is %v): chmod +x it and zip it again with its mode",
			bootstrap, main.Mode())
	case main.UncompressedSize64 == 0:
		return nil, badZip("%s is empty", bootstrap)
	}
	a.binary = int64(main.UncompressedSize64)
	return a, nil
}

// checkDirectory checks the end of the zip, so that reading its directory cannot take much memory.
// These sizes do not need Zip64.
func checkDirectory(r io.ReaderAt, size int64, maxFiles int) error {
	const endSize = 22
	tail := make([]byte, min(size, endSize+1<<16))
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return notRunError(faas.ErrInternal, "deploy", "the upload cannot be read back: %w", err)
	}
	for {
		i := bytes.LastIndex(tail, []byte("PK\x05\x06"))
		if i < 0 {
			return badZip("it is no zip, or not a whole one")
		}
		end := tail[i:]
		tail = tail[:i]
		if len(end) < endSize || int(binary.LittleEndian.Uint16(end[20:])) > len(end)-endSize {
			continue
		}
		entries := int(binary.LittleEndian.Uint16(end[10:]))
		length, offset := int64(binary.LittleEndian.Uint32(end[12:])), int64(binary.LittleEndian.Uint32(end[16:]))
		position := size - int64(len(end))
		switch {
		case entries > maxFiles || entries == 0xffff:
			return badZip("more than %d entries, the limit", maxFiles)
		case length > maxDirectory:
			return badZip("its directory has %d bytes, the limit is %d", length, maxDirectory)
		case offset+length != position:
			return badZip("its directory is not where it says")
		}
		return nil
	}
}

// checkEntry returns the clean name of an entry that may be unpacked.
func checkEntry(f *zip.File) (string, error) {
	name := strings.TrimSuffix(f.Name, "/")
	mode := f.Mode()
	switch {
	case len(f.Name) > maxName:
		return "", badZip("a path of %d bytes, the limit is %d", len(f.Name), maxName)
	case slices.ContainsFunc(strings.Split(f.Name, "/"), func(part string) bool { return len(part) > maxPart }):
		return "", badZip("%.60q... has a part of more than %d bytes, the limit", f.Name, maxPart)
	case strings.ContainsFunc(f.Name, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }):
		return "", badZip("path %.200q has control characters or is not UTF-8", f.Name)
	case strings.Contains(f.Name, `\`):
		return "", badZip("path %.200q has a backslash", f.Name)
	case len(name) > 1 && name[1] == ':', strings.HasPrefix(f.Name, "/"):
		return "", badZip("path %.200q is absolute", f.Name)
	case deviceName(name):
		return "", badZip("path %.200q has the name of a device of Windows", f.Name)
	case !fs.ValidPath(name) || name == ".":
		return "", badZip("path %.200q leaves the package or is not in its shortest form", f.Name)
	case !mode.IsRegular() && !mode.IsDir():
		return "", badZip("%.200q is a link or a special file (%v): only files and directories are taken", f.Name,
			mode.Type())
	case mode.IsDir() != strings.HasSuffix(f.Name, "/"):
		return "", badZip("%.200q is a directory by its mode or by its name, but not by both", f.Name)
	case f.Flags&1 != 0:
		return "", badZip("%.200q is encrypted", f.Name)
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return "", badZip("%.200q is compressed by method %d: only stored and deflated files are taken", f.Name, f.Method)
	case mode.IsDir() && f.UncompressedSize64 != 0:
		return "", badZip("directory %.200q has content", f.Name)
	}
	return name, nil
}

// deviceName reports whether Windows takes this part of a path for a device in every directory. A
// name with an extension is a device only on Windows, where [os.Root] refuses it.
func deviceName(name string) bool {
	for part := range strings.SplitSeq(strings.ToUpper(name), "/") {
		switch part {
		case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
			return true
		}
		if n, ok := strings.CutPrefix(part, "COM"); ok && len(n) == 1 && n[0] >= '0' && n[0] <= '9' {
			return true
		}
		if n, ok := strings.CutPrefix(part, "LPT"); ok && len(n) == 1 && n[0] >= '0' && n[0] <= '9' {
			return true
		}
	}
	return false
}

// unpack writes the files into dir, which must exist and be empty.
func (a *archive) unpack(dir string, sync bool) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return storeError("%w", err)
	}
	defer func() {
		if cerr := root.Close(); err == nil && cerr != nil {
			err = storeError("%w", cerr)
		}
	}()
	buf := make([]byte, blockSize)
	for _, f := range a.files {
		name := strings.TrimSuffix(f.Name, "/")
		parent := name
		if !f.Mode().IsDir() {
			parent = path.Dir(name)
		}
		if parent != "." {
			if err := root.MkdirAll(parent, 0o755); err != nil {
				return badZip("%.200q cannot be made: %w", parent, err)
			}
		}
		if f.Mode().IsDir() {
			continue
		}
		if err := unpackFile(root, f, name, buf, sync); err != nil {
			return err
		}
	}
	if sync {
		return syncDirectories(dir)
	}
	return nil
}

// syncDirectories makes the names below dir durable, as the files' contents are.
func syncDirectories(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = syncDirectory(path)
		}
		return err
	})
}

func unpackFile(root *os.Root, f *zip.File, name string, buf []byte, sync bool) error {
	in, err := f.Open()
	if err != nil {
		return badZip("%.200q: %w", f.Name, err)
	}
	defer func() { _ = in.Close() }()
	mode := fs.FileMode(0o644)
	if f.Mode()&0o111 != 0 {
		mode = 0o755
	}
	out, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return storeError("%w", err)
	}
	size := int64(f.UncompressedSize64)
	n, err := copyFile(out, io.LimitReader(in, size+1), size, buf)
	if err == nil && n != size {
		err = fmt.Errorf("it has not the %d bytes that the directory says", size)
	}
	var failed *fs.PathError
	switch {
	case errors.As(err, &failed): // of the file, not of the zip
		err = storeError("%w", err)
	case err != nil:
		err = badZip("%.200q: %w", f.Name, err)
	}
	// Set the mode again, because creating the file applied the program's umask.
	if cerr := out.Chmod(mode); err == nil && cerr != nil {
		err = storeError("%w", cerr)
	}
	if err == nil && sync {
		if serr := out.Sync(); serr != nil {
			err = storeError("%w", serr)
		}
	}
	if cerr := out.Close(); err == nil && cerr != nil {
		err = storeError("%w", cerr)
	}
	return err
}

// copyFile copies a file of size bytes. It writes a large one while it inflates the next part.
func copyFile(out *os.File, in io.Reader, size int64, buf []byte) (int64, error) {
	if size <= int64(len(buf)) {
		return io.CopyBuffer(onlyWriter{out}, in, buf)
	}
	b := newBehind(out)
	n, err := b.ReadFrom(in)
	if werr := b.Close(); werr != nil {
		err = werr
	}
	return n, err
}

// onlyWriter hides ReadFrom, so that io.CopyBuffer uses the given buffer.
type onlyWriter struct{ io.Writer }
