package faas

import (
	"archive/zip"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// The executable of this test stands for a job binary: both are Go programs with their symbols.
// The benchmark reports the size of the package beside the time, since each only means something
// with the other.
func BenchmarkBuildPackage(b *testing.B) {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(exe)
	if err != nil {
		b.Fatal(err)
	}
	report := func(b *testing.B, size int64) {
		b.ReportMetric(100*float64(size)/float64(info.Size()), "%size")
	}
	b.Run("faas", func(b *testing.B) {
		b.SetBytes(info.Size())
		var size int64
		dir := b.TempDir()
		for b.Loop() {
			p, err := BuildPackage(b.Context(), dir, BootstrapFiles(&Binary{Path: exe}))
			if err != nil {
				b.Fatal(err)
			}
			size = p.Size()
		}
		report(b, size)
	})
	b.Run("archive-zip", func(b *testing.B) {
		b.SetBytes(info.Size())
		var size int64
		path := filepath.Join(b.TempDir(), "x.zip")
		for b.Loop() {
			if size, err = standardZip(path, exe); err != nil {
				b.Fatal(err)
			}
		}
		report(b, size)
	})
}

// standardZip makes the same package with only the standard library, hash included.
func standardZip(path, exe string) (int64, error) {
	out, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	in, err := os.Open(exe)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	zw := zip.NewWriter(io.MultiWriter(out, sha256.New()))
	w, err := zw.CreateHeader(&zip.FileHeader{Name: "bootstrap", Method: zip.Deflate})
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(w, in); err != nil {
		return 0, err
	}
	if err := zw.Close(); err != nil {
		return 0, err
	}
	return out.Seek(0, io.SeekCurrent)
}
