package faas

import (
	"archive/zip"
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// PackageFile is one file of a package: a path on this machine, or Content if Path is empty.
type PackageFile struct {
	Name    string // slash-separated path inside the zip
	Path    string
	Content []byte
	Mode    uint32 // permission bits, such as 0o755; 0 means 0o644
	SHA256  string // hex, of what is at Path; a file that has another is not packed. Empty: any
}

// BootstrapFiles returns the files of the simplest package: the executable as "bootstrap" at the
// root.
func BootstrapFiles(bin *Binary) []PackageFile {
	return []PackageFile{{Name: "bootstrap", Path: bin.Path, Mode: 0o755, SHA256: bin.SHA256}}
}

// Package is a zip on disk, ready for upload. It is immutable, and identified by its hash.
type Package struct {
	path     string
	sha256   string
	size     int64
	unpacked int64
}

// SHA256 returns the hex SHA-256 of the zip's bytes.
func (p *Package) SHA256() string { return p.sha256 }

// Size returns the size of the zip, in bytes.
func (p *Package) Size() int64 { return p.size }

// Unpacked returns the sum of the sizes of the files in the zip, in bytes.
func (p *Package) Unpacked() int64 { return p.unpacked }

// Path returns the path of the zip. Whoever removes the directory it was built in removes it.
func (p *Package) Path() string { return p.path }

// Open opens the zip for reading. The caller closes it.
func (p *Package) Open() (io.ReadSeekCloser, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return nil, Errorf(ErrInternal, "open package", "", "%w", err)
	}
	return f, nil
}

// packageTime is the modification time of every file in a package: the earliest time that the zip
// format can express.
var packageTime = time.Date(1980, time.January, 1, 0, 0, 0, 0, time.UTC)

// BuildPackage writes a zip of the files into dir, named by its own hash, and returns it.
//
// The bytes of the zip depend only on the names, modes and contents of the files, and not on
// their order, their paths or their times. A different hash therefore means that something
// changed. The zip has files only, no directories. Files are streamed, and compressed on all
// processors. With an error, dir is as it was.
//
// The error is ErrInvalidArgument if files is empty, if a name is empty, not a clean relative
// slash path, not UTF-8 or duplicate, if a mode has more than permission bits, or if a Path
// cannot be read or is not a regular file. It is ErrConflict if a file changes while it is read,
// or does not match its SHA256; ErrTimeout if ctx is done first; ErrInternal if dir cannot be
// written.
func BuildPackage(ctx context.Context, dir string, files []PackageFile) (*Package, error) {
	files = slices.Clone(files)
	slices.SortStableFunc(files, func(a, b PackageFile) int { return cmp.Compare(a.Name, b.Name) })
	if err := checkFiles(files); err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(dir, "package-*.tmp")
	if err != nil {
		return nil, packageError(ErrInternal, "%w", err)
	}
	pkg, err := writePackage(ctx, tmp, files)
	if cerr := tmp.Close(); err == nil && cerr != nil {
		err = packageError(ErrInternal, "%w", cerr)
	}
	if err == nil {
		pkg.path = filepath.Join(dir, pkg.sha256+".zip")
		if rerr := os.Rename(tmp.Name(), pkg.path); rerr != nil {
			err = packageError(ErrInternal, "%w", rerr)
		}
	}
	if err != nil {
		os.Remove(tmp.Name())
		return nil, err
	}
	return pkg, nil
}

func packageError(code Code, format string, args ...any) *Error {
	return Errorf(code, "build package", "", format, args...)
}

// checkFiles makes all checks of sorted files that do not read them.
func checkFiles(files []PackageFile) error {
	if len(files) == 0 {
		return packageError(ErrInvalidArgument, "no files")
	}
	seen := make(map[string]bool, len(files))
	for _, f := range files {
		switch {
		case !fs.ValidPath(f.Name) || f.Name == "." || strings.ContainsAny(f.Name, "\\:") || !utf8.ValidString(f.Name) ||
			strings.ContainsFunc(f.Name, isControl):
			return packageError(ErrInvalidArgument,
				"name %q: not a relative path with single slashes and without . and .. in it", f.Name)
		case seen[f.Name]:
			return packageError(ErrInvalidArgument, "name %q: there twice", f.Name)
		case f.Mode > 0o777:
			return packageError(ErrInvalidArgument, "%s: mode %#o has more than permission bits", f.Name, f.Mode)
		case f.SHA256 != "" && f.Path == "":
			return packageError(ErrInvalidArgument, "%s: SHA256 is set, and Path is not", f.Name)
		case f.Path != "" && f.Content != nil:
			return packageError(ErrInvalidArgument, "%s: both Path and Content are set", f.Name)
		}
		for dir := f.Name; strings.Contains(dir, "/"); {
			dir = dir[:strings.LastIndexByte(dir, '/')]
			if seen[dir] { // sorted: a directory's name comes before what is in it
				return packageError(ErrInvalidArgument, "name %q: %q is a file", f.Name, dir)
			}
		}
		seen[f.Name] = true
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func writePackage(ctx context.Context, w io.Writer, files []PackageFile) (*Package, error) {
	sum := sha256.New()
	size := &countingWriter{}
	zw := zip.NewWriter(bufio.NewWriterSize(io.MultiWriter(w, sum, size), 64<<10))
	deflate := newDeflater()
	defer deflate.wait() // after an error it may still be at work
	zw.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		deflate.start(w)
		return deflate, nil
	})
	pkg := &Package{}
	buf := make([]byte, 128<<10)
	for _, f := range files {
		n, err := addFile(ctx, zw, f, buf)
		if err != nil {
			return nil, err
		}
		pkg.unpacked += n
	}
	if err := zw.Close(); err != nil {
		return nil, packageError(ErrInternal, "%w", err)
	}
	pkg.sha256, pkg.size = hex.EncodeToString(sum.Sum(nil)), size.n
	return pkg, nil
}

// addFile adds one file to the zip and returns its size.
func addFile(ctx context.Context, zw *zip.Writer, f PackageFile, buf []byte) (int64, error) {
	var src io.Reader = bytes.NewReader(f.Content)
	size := int64(len(f.Content))
	if f.Path != "" {
		file, n, err := openRegular(f.Path)
		if err != nil {
			return 0, packageError(ErrInvalidArgument, "%s: %w", f.Name, err)
		}
		defer file.Close()
		src, size = file, n
	}
	h := &zip.FileHeader{Name: f.Name, Method: zip.Deflate, Modified: packageTime}
	h.SetMode(fs.FileMode(cmp.Or(f.Mode, 0o644)))
	w, err := zw.CreateHeader(h)
	if err != nil {
		return 0, packageError(ErrInvalidArgument, "name %.40q: %w", f.Name, err)
	}
	in := &sourceReader{ctx: ctx, r: src}
	if f.SHA256 != "" {
		in.hash = sha256.New()
	}
	n, err := io.CopyBuffer(w, in, buf)
	switch {
	case in.err != nil && ctx.Err() != nil:
		return 0, packageError(ErrTimeout, "%s: %w", f.Name, ctx.Err())
	case in.err != nil:
		return 0, packageError(ErrInvalidArgument, "%s: %w", f.Name, in.err)
	case err != nil:
		return 0, packageError(ErrInternal, "%s: %w", f.Name, err)
	case n != size:
		return 0, packageError(ErrConflict, "%s: %s changed while it was read: it had %d bytes and then %d", f.Name, f.Path,
			size, n)
	case in.hash != nil && hex.EncodeToString(in.hash.Sum(nil)) != strings.ToLower(f.SHA256):
		return 0, packageError(ErrConflict, "%s: %s has changed since it was inspected: deploy again when it is whole",
			f.Name, f.Path)
	}
	return n, nil
}

// openRegular opens a file for reading and returns its size. It refuses anything but a regular
// file, and never waits, for example for the writer of a pipe.
func openRegular(path string) (*os.File, int64, error) {
	before, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !before.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file (%s)", path, before.Mode())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New(path + " is not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

type countingWriter struct{ n int64 }

func (w *countingWriter) Write(p []byte) (int, error) {
	w.n += int64(len(p))
	return len(p), nil
}

// sourceReader reads until the context is done, and keeps its error apart from those of writing.
type sourceReader struct {
	ctx  context.Context
	r    io.Reader
	hash hash.Hash // of what was read, unless nil
	err  error
}

func (r *sourceReader) Read(p []byte) (int, error) {
	if r.err = r.ctx.Err(); r.err != nil {
		return 0, r.err
	}
	n, err := r.r.Read(p)
	if r.hash != nil {
		r.hash.Write(p[:n]) // never fails
	}
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
