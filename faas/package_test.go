package faas

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func writeFile(t testing.TB, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func build(t testing.TB, files ...PackageFile) *Package {
	t.Helper()
	p, err := BuildPackage(t.Context(), t.TempDir(), files)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBuildPackageIsReproducible(t *testing.T) {
	content := append(bytes.Repeat([]byte("the same code "), 100_000), randomBytes(300_000)...)
	one := writeFile(t, filepath.Join(t.TempDir(), "one"), content)
	two := writeFile(t, filepath.Join(t.TempDir(), "another-name"), content)
	if err := os.Chtimes(two, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(two, 0o700); err != nil {
		t.Fatal(err)
	}
	config := PackageFile{Name: "job/function.json", Content: []byte("{}")}
	a := build(t, PackageFile{Name: "bootstrap", Path: one, Mode: 0o755}, config)
	b := build(t, config, PackageFile{Name: "bootstrap", Path: two, Mode: 0o755})
	inMemory := build(t, config, PackageFile{Name: "bootstrap", Content: content, Mode: 0o755})
	if a.SHA256() != b.SHA256() || a.SHA256() != inMemory.SHA256() {
		t.Errorf("the same files give different packages: %s, %s, %s", a.SHA256(), b.SHA256(), inMemory.SHA256())
	}
	content[len(content)/2] ^= 1
	for what, other := range map[string]*Package{
		"content": build(t, config, PackageFile{Name: "bootstrap", Content: content, Mode: 0o755}),
		"mode":    build(t, config, PackageFile{Name: "bootstrap", Path: one, Mode: 0o700}),
		"name":    build(t, config, PackageFile{Name: "bootstrap2", Path: one, Mode: 0o755}),
		"less":    build(t, PackageFile{Name: "bootstrap", Path: one, Mode: 0o755}),
	} {
		if other.SHA256() == a.SHA256() {
			t.Errorf("another %s gives the same package", what)
		}
	}
}

func TestPackageIsWhatItSaysAndOpensEverywhere(t *testing.T) {
	code := bytes.Repeat([]byte("code"), 5000)
	dir := t.TempDir()
	p, err := BuildPackage(t.Context(), dir, []PackageFile{
		{Name: "sub/dir/b.txt", Content: []byte("b")},
		{Name: "empty", Content: []byte{}},
		{Name: "bootstrap", Path: writeFile(t, filepath.Join(t.TempDir(), "x"), code), Mode: 0o755},
		{Name: "späß.txt", Content: []byte("c"), Mode: 0o400},
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(p.Path())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	if p.SHA256() != hex.EncodeToString(sum[:]) || p.Size() != int64(len(text)) || p.Unpacked() != int64(len(code)+2) {
		t.Errorf("package says %s, %d, %d; the file has %x, %d", p.SHA256(), p.Size(), p.Unpacked(), sum, len(text))
	}
	if want := filepath.Join(dir, p.SHA256()+".zip"); p.Path() != want {
		t.Errorf("it lies at %s, want %s", p.Path(), want)
	}
	r, err := p.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	again, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(again, text) {
		t.Errorf("Open reads something else: %v", err)
	}

	type entry struct {
		Name, Content string
		Mode          fs.FileMode
	}
	var got []entry
	zr, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range zr.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, entry{f.Name, string(content), f.Mode()})
		if f.CreatorVersion>>8 != 3 {
			t.Errorf("%s: creator %#x is not Unix: unpackers drop the mode", f.Name, f.CreatorVersion)
		}
		if !f.Modified.Equal(packageTime) {
			t.Errorf("%s: modified at %v", f.Name, f.Modified)
		}
	}
	want := []entry{{"bootstrap", string(code), 0o755}, {"empty", "", 0o644}, {"späß.txt", "c", 0o400},
		{"sub/dir/b.txt", "b", 0o644}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBuildPackageRefusesBadFiles(t *testing.T) {
	dir := t.TempDir()
	ok := writeFile(t, filepath.Join(dir, "ok"), []byte("x"))
	name := func(names ...string) (files []PackageFile) {
		for _, n := range names {
			files = append(files, PackageFile{Name: n, Path: ok})
		}
		return files
	}
	for what, tt := range map[string]struct {
		files []PackageFile
		want  string
	}{
		"nothing":    {nil, `no files`},
		"empty name": {name(""), `name "": not a relative path with single slashes and without . and .. in it`},
		"absolute": {name("/etc/passwd"),
			`name "/etc/passwd": not a relative path with single slashes and without . and .. in it`},
		"upwards": {name("a/../../b"),
			`name "a/../../b": not a relative path with single slashes and without . and .. in it`},
		"dot":            {name("."), `name ".": not a relative path with single slashes and without . and .. in it`},
		"directory":      {name("a/"), `name "a/": not a relative path with single slashes and without . and .. in it`},
		"backslash":      {name(`a\b`), `name "a\\b": not a relative path with single slashes and without . and .. in it`},
		"drive":          {name(`c:x`), `name "c:x": not a relative path with single slashes and without . and .. in it`},
		"control":        {name("a\nb"), `name "a\nb": not a relative path with single slashes and without . and .. in it`},
		"not UTF-8":      {name("a\xff"), `name "a\xff": not a relative path with single slashes and without . and .. in it`},
		"twice":          {name("a", "b", "a"), `name "a": there twice`},
		"file as parent": {name("a/b", "a-", "a"), `name "a/b": "a" is a file`},
		"mode": {[]PackageFile{{Name: "a", Path: ok, Mode: 0o4755}},
			`a: mode 04755 has more than permission bits`},
		"two sources": {[]PackageFile{{Name: "a", Path: ok, Content: []byte("x")}}, `a: both Path and Content are set`},
		"hash of content": {[]PackageFile{{Name: "a", Content: []byte("x"), SHA256: "ab"}},
			`a: SHA256 is set, and Path is not`},
		"source directory": {[]PackageFile{{Name: "a", Path: os.TempDir()}}, ``},
		"no source":        {[]PackageFile{{Name: "a", Path: filepath.Join(dir, "missing")}}, ``},
		"second missing":   {[]PackageFile{{Name: "a", Path: ok}, {Name: "b", Path: filepath.Join(dir, "missing")}}, ``},
	} {
		out := t.TempDir()
		_, err := BuildPackage(t.Context(), out, tt.files)
		if !errors.Is(err, ErrInvalidArgument) || tt.want != "" && err.Error() != "faas: build package: "+tt.want {
			t.Errorf("%s: %v, want %s", what, err, tt.want)
		}
		wantEmpty(t, out)
	}
	_, err := BuildPackage(t.Context(), t.TempDir(), []PackageFile{{Name: "a", Path: filepath.Join(dir, "missing")}})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cause of a missing file is not reachable: %v", err)
	}
	if _, err := BuildPackage(t.Context(), filepath.Join(dir, "missing"), name("a")); CodeOf(err) != ErrInternal {
		t.Errorf("a directory that does not exist: %v", err)
	}
}

func TestBuildPackageTakesOnlyTheFileThatWasInspected(t *testing.T) {
	dir := t.TempDir()
	path := writeFile(t, filepath.Join(dir, "job"), []byte("hello"))
	const sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	with, err := BuildPackage(t.Context(), t.TempDir(),
		[]PackageFile{{Name: "a", Path: path, SHA256: strings.ToUpper(sum)}})
	if err != nil {
		t.Fatal(err)
	}
	without, err := BuildPackage(t.Context(), t.TempDir(), []PackageFile{{Name: "a", Path: path}})
	if err != nil || with.SHA256() != without.SHA256() {
		t.Errorf("the zip depends on whether the hash was given: %v", err)
	}
	writeFile(t, path, []byte("hullo"))
	out := t.TempDir()
	if _, err := BuildPackage(t.Context(), out, []PackageFile{{Name: "a", Path: path, SHA256: sum}}); CodeOf(
		err) != ErrConflict || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that has changed: %v", err)
	}
	wantEmpty(t, out)
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s was left behind", e.Name())
	}
}

func TestBuildPackageStopsWhenTheContextIsDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := t.TempDir()
	_, err := BuildPackage(ctx, out, []PackageFile{{Name: "a", Content: []byte("x")}})
	if !errors.Is(err, ErrTimeout) || !errors.Is(err, context.Canceled) {
		t.Errorf("BuildPackage: %v", err)
	}
	wantEmpty(t, out)
}

func TestBuildPackageDoesNotHoldTheFileInMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 32 MiB")
	}
	const size = 32 << 20
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // memory grows with the number of processors, up to a limit
	path := filepath.Join(t.TempDir(), "big")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p := build(t, PackageFile{Name: "bootstrap", Path: path, Mode: 0o755})
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > size/2 {
		t.Errorf("packaging %d bytes allocated %d", size, got)
	}
	if p.Unpacked() != size || p.Size() > size/100 {
		t.Errorf("unpacked %d, size %d", p.Unpacked(), p.Size())
	}
}

// The bytes of a package must not depend on the machine it is built on.
func TestPackagesAreTheSameOnAnyNumberOfProcessors(t *testing.T) {
	content := bytes.Repeat(randomBytes(20_000), 3*blockSize/20_000)
	for i := 0; i < len(content); i += 37 {
		content[i] = byte(i >> 12)
	}
	for _, size := range []int{0, 1, windowSize, blockSize, blockSize + 1, len(content)} {
		file := PackageFile{Name: "bootstrap", Content: content[:size]}
		want := ""
		for _, n := range []int{1, 3} {
			before := runtime.GOMAXPROCS(n)
			p := build(t, file)
			runtime.GOMAXPROCS(before)
			if want == "" {
				want = p.SHA256()
				zr, err := zip.OpenReader(p.Path())
				if err != nil {
					t.Fatal(err)
				}
				defer zr.Close()
				r, err := zr.File[0].Open()
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content[:size]) {
					t.Errorf("%d bytes do not come out as they went in: %v", size, err)
				}
			}
			if p.SHA256() != want {
				t.Errorf("the package of %d bytes is another one with %d processors", size, n)
			}
		}
	}
}

// doneAfter is a context that is done after its error was read a number of times.
type doneAfter struct {
	context.Context
	left int
}

func (c *doneAfter) Err() error {
	c.left--
	if c.left < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

func TestBuildPackageStopsInTheMiddleOfAFile(t *testing.T) {
	out := t.TempDir()
	ctx := &doneAfter{t.Context(), 20} // 20 reads of 128 KiB: some blocks are being compressed
	_, err := BuildPackage(ctx, out, []PackageFile{{Name: "a", Content: make([]byte, 8*blockSize)}})
	if !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("BuildPackage: %v", err)
	}
	wantEmpty(t, out)
}
