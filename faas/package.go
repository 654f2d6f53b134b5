package faas

import (
	"context"
	"io"
)

// PackageFile is one file of a package: a path on this machine, or Content where Path is empty.
type PackageFile struct {
	Name    string // slash-separated path inside the zip
	Path    string
	Content []byte
	Mode    uint32 // permission bits, such as 0o755
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

// Path returns where the zip is. It is removed with the directory it was built in.
func (p *Package) Path() string { return p.path }

// BuildPackage writes a zip of the files into dir and returns it.
func BuildPackage(ctx context.Context, dir string, files []PackageFile) (*Package, error) {
	panic("being written")
}

// Open opens the zip for reading. The caller closes it.
func (p *Package) Open() (io.ReadSeekCloser, error) { panic("being written") }
