//go:build unix

package platform

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func limits(t testing.TB) Limits {
	var o options
	if err := o.setDefaults(); err != nil {
		t.Fatal(err)
	}
	return o.limits
}

// rawZip writes entries exactly as given, including wrong sizes and checksums.
func rawZip(t testing.TB, entries ...*zip.FileHeader) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for _, h := range entries {
		w, err := zw.CreateRaw(h)
		if err == nil {
			_, err = w.Write([]byte(h.Comment))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// hostileZip is a zip that must be refused by a platform that allows four files in a package.
type hostileZip struct {
	name, text string
	code       faas.Code
	zip        []byte
}

func hostileZips(t testing.TB) []hostileZip {
	main := file{"bootstrap", 0o755, "#!/bin/sh\n"}
	with := func(name string, mode fs.FileMode, body string) []byte {
		return makeZip(t, main, file{name, mode, body})
	}
	good := makeZip(t, main)
	patched := func(change func(end []byte)) []byte {
		b := bytes.Clone(good)
		change(b[len(b)-22:])
		return b
	}
	hardLink := &zip.FileHeader{Name: "link", Extra: []byte("\x0d\x00\x17\x00time\x00time\x00\x00\x00\x00/etc/passwd")}
	hardLink.SetMode(0o644 | fs.ModeSymlink)
	return []hostileZip{
		{"parent", "leaves the package", faas.ErrInvalidArgument, with("../evil", 0o644, "x")},
		{"parent inside", "leaves the package", faas.ErrInvalidArgument, with("a/../../evil", 0o644, "x")},
		{"dot", "shortest form", faas.ErrInvalidArgument, with("./a", 0o644, "x")},
		{"double slash", "shortest form", faas.ErrInvalidArgument, with("a//b", 0o644, "x")},
		{"absolute", "absolute", faas.ErrInvalidArgument, with("/etc/evil", 0o644, "x")},
		{"drive", "absolute", faas.ErrInvalidArgument, with("C:/evil", 0o644, "x")},
		{"drive without a slash", "absolute", faas.ErrInvalidArgument, with("C:evil", 0o644, "x")},
		{"share", "absolute", faas.ErrInvalidArgument, with("//server/share/evil", 0o644, "x")},
		{"device of Windows", "name of a device", faas.ErrInvalidArgument, with("a/NUL", 0o644, "x")},
		{"device of Windows with a number", "name of a device", faas.ErrInvalidArgument, with("com1", 0o644, "x")},
		{"directory named as a device", "name of a device", faas.ErrInvalidArgument, with("con/x", 0o644, "x")},
		{"device path", "backslash", faas.ErrInvalidArgument, with(`\\.\COM1`, 0o644, "x")},
		{"stream of a device", "backslash", faas.ErrInvalidArgument, with(`\\?\C:\evil`, 0o644, "x")},
		{"backslash", "backslash", faas.ErrInvalidArgument, with(`..\evil`, 0o644, "x")},
		{"control character", "control characters", faas.ErrInvalidArgument, with("a\nb", 0o644, "x")},
		{"NUL", "control characters", faas.ErrInvalidArgument, with("a\x00b", 0o644, "x")},
		{"empty name", "shortest form", faas.ErrInvalidArgument, with("", 0o644, "x")},
		{"long name", "1024", faas.ErrInvalidArgument, with(strings.Repeat("a/", 600)+"a", 0o644, "x")},
		{"symbolic link", "link or a special file", faas.ErrInvalidArgument,
			with("link", 0o777|fs.ModeSymlink, "/etc/passwd")},
		{"link in the style of PKWARE", "link or a special file", faas.ErrInvalidArgument, rawZip(t, hardLink)},
		{"character device", "link or a special file", faas.ErrInvalidArgument,
			with("null", 0o666|fs.ModeDevice|fs.ModeCharDevice, "")},
		{"socket", "link or a special file", faas.ErrInvalidArgument, with("socket", 0o666|fs.ModeSocket, "")},
		{"bootstrap a link", "link or a special file", faas.ErrInvalidArgument,
			makeZip(t, file{"bootstrap", 0o777 | fs.ModeSymlink, "/bin/sh"})},
		{"device", "link or a special file", faas.ErrInvalidArgument, with("dev", 0o666|fs.ModeDevice, "")},
		{"pipe", "link or a special file", faas.ErrInvalidArgument, with("pipe", 0o666|fs.ModeNamedPipe, "")},
		{"directory with a file's name", "directory", faas.ErrInvalidArgument, with("dir", 0o755|fs.ModeDir, "")},
		{"twice with other letters", "twice", faas.ErrInvalidArgument,
			makeZip(t, main, file{"Bootstrap", 0o755, "other"}, file{"bootstrap", 0o755, "third"})},
		{"below a link", "link or a special file", faas.ErrInvalidArgument,
			makeZip(t, main, file{"d", 0o777 | fs.ModeSymlink, "/tmp"}, file{"d/evil", 0o644, "x"})},
		{"twice", "twice", faas.ErrInvalidArgument, with("bootstrap", 0o755, "other")},
		{"file below a file", "below it", faas.ErrInvalidArgument, with("bootstrap/x", 0o644, "x")},
		{"many files", "more than 4 entries", faas.ErrInvalidArgument,
			makeZip(t, main, file{"1", 0o644, ""}, file{"2", 0o644, ""}, file{"3", 0o644, ""}, file{"4", 0o644, ""})},
		{"more files than it says", "refused", faas.ErrInvalidArgument,
			patched(func(end []byte) { binary.LittleEndian.PutUint16(end[10:], 0) })},
		{"70,000 files", "more than 4 entries", faas.ErrInvalidArgument, manyFiles(t, 70_000)},
		{"says 65,535 files", "more than 4 entries", faas.ErrInvalidArgument,
			patched(func(end []byte) { binary.LittleEndian.PutUint16(end[10:], 0xffff) })},
		{"no bootstrap", "no file named bootstrap", faas.ErrInvalidArgument, makeZip(t, file{"bin/bootstrap", 0o755, "x"})},
		{"bootstrap not executable", "chmod", faas.ErrInvalidArgument, makeZip(t, file{"bootstrap", 0o644, "#!/bin/sh\n"})},
		{"bootstrap a directory", "no regular file", faas.ErrInvalidArgument,
			makeZip(t, file{"bootstrap/", 0o755 | fs.ModeDir, ""})},
		{"bootstrap empty", "empty", faas.ErrInvalidArgument, makeZip(t, file{"bootstrap", 0o755, ""})},
		{"bomb", "100 times", faas.ErrInvalidArgument, with("zeros", 0o644, strings.Repeat("\x00", 17<<20))},
		{"too large", "250 MiB", faas.ErrTooLarge, rawZip(
			t, &zip.FileHeader{Name: "a", Method: zip.Deflate, UncompressedSize64: 251 << 20, CompressedSize64: 1,
				Comment: "x"})},
		{"too large together", "250 MiB", faas.ErrTooLarge, rawZip(t,
			&zip.FileHeader{Name: "a", Method: zip.Deflate, UncompressedSize64: 130 << 20, CompressedSize64: 1, Comment: "x"},
			&zip.FileHeader{Name: "b", Method: zip.Deflate, UncompressedSize64: 130 << 20, CompressedSize64: 1, Comment: "x"})},
		{"unknown method", "method 12", faas.ErrInvalidArgument,
			rawZip(t, &zip.FileHeader{Name: "a", Method: 12, UncompressedSize64: 1, CompressedSize64: 1, Comment: "x"})},
		{"encrypted", "encrypted", faas.ErrInvalidArgument,
			rawZip(t, &zip.FileHeader{Name: "a", Flags: 1, UncompressedSize64: 1, CompressedSize64: 1, Comment: "x"})},
		{"nothing", "no zip", faas.ErrInvalidArgument, nil},
		{"no zip", "no zip", faas.ErrInvalidArgument, []byte("hello")},
		{"cut off", "no zip", faas.ErrInvalidArgument, good[:len(good)-10]},
		{"directory elsewhere", "not where it says", faas.ErrInvalidArgument,
			patched(func(end []byte) { binary.LittleEndian.PutUint32(end[16:], 1) })},
		{"large directory", "directory has", faas.ErrInvalidArgument,
			patched(func(end []byte) { binary.LittleEndian.PutUint32(end[12:], 1<<30) })},
	}
}

// manyFiles makes a zip of n empty files and a bootstrap.
func manyFiles(t testing.TB, n int) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for i := range n {
		if _, err := zw.CreateHeader(&zip.FileHeader{Name: strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestHostileZips(t *testing.T) {
	l := limits(t)
	l.MaxFiles = 4
	for _, tt := range hostileZips(t) {
		t.Run(tt.name, func(t *testing.T) {
			_, err := openArchive(bytes.NewReader(tt.zip), int64(len(tt.zip)), &l)
			if faas.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v (%s), want %s with %q", err, faas.CodeOf(err), tt.code, tt.text)
			}
		})
	}
}

// Wrong sizes and checksums are found during unpacking, and no more is written than the zip claims.
func TestZipsThatLie(t *testing.T) {
	var deflated bytes.Buffer
	zw := zip.NewWriter(&deflated)
	w, _ := zw.Create("x")
	_, _ = io.WriteString(w, strings.Repeat("a", 1<<20))
	_ = zw.Close()
	zr, _ := zip.NewReader(bytes.NewReader(deflated.Bytes()), int64(deflated.Len()))
	raw, _ := zr.File[0].OpenRaw()
	body, _ := io.ReadAll(raw)
	for name, change := range map[string]func(*zip.FileHeader){
		"smaller than it is": func(h *zip.FileHeader) { h.UncompressedSize64 = 10 },
		"larger than it is":  func(h *zip.FileHeader) { h.UncompressedSize64 = 2 << 20 },
		"another sum":        func(h *zip.FileHeader) { h.CRC32++ },
	} {
		t.Run(name, func(t *testing.T) {
			h := &zip.FileHeader{
				Name: "bootstrap", Method: zip.Deflate, CRC32: zr.File[0].CRC32, UncompressedSize64: 1 << 20,
				CompressedSize64: uint64(len(body)), Comment: string(body),
			}
			h.SetMode(0o755)
			change(h)
			b := rawZip(t, h)
			l := limits(t)
			a, err := openArchive(bytes.NewReader(b), int64(len(b)), &l)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := a.unpack(dir, false); faas.CodeOf(err) != faas.ErrInvalidArgument {
				t.Errorf("got %v", err)
			}
			if info, err := os.Stat(filepath.Join(dir, "bootstrap")); err == nil && info.Size() > int64(h.UncompressedSize64)+1 {
				t.Errorf("%d bytes were written", info.Size())
			}
		})
	}
}

func TestUnpackedFilesKeepTheirContentAndExecutableBit(t *testing.T) {
	b := makeZip(t, file{"bootstrap", 0o700, "#!/bin/sh\n"}, file{"lib/", 0o755 | fs.ModeDir, ""},
		file{"lib/a.so", 0o600, "so"}, file{"data/x/y", fs.ModeSetuid | 0o755, "y"})
	l := limits(t)
	a, err := openArchive(bytes.NewReader(b), int64(len(b)), &l)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := a.unpack(dir, true); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"bootstrap": 0o755, "lib/a.so": 0o644, "data/x/y": 0o755} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v %v, want %v", name, info, err, want)
		}
	}
}

func FuzzZip(f *testing.F) {
	f.Add(makeZip(f, file{"bootstrap", 0o755, "#!/bin/sh\n"}, file{"a/b", 0o644, "x"}))
	f.Add(makeZip(f, file{"bootstrap", 0o755, "#!/bin/sh\n"}, file{"../b", 0o644, "x"}))
	f.Add([]byte("PK\x05\x06"))
	l := limits(f)
	l.MaxUnpackedMB = 1
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := openArchive(bytes.NewReader(b), int64(len(b)), &l)
		if err != nil {
			return
		}
		parent := t.TempDir()
		dir := filepath.Join(parent, "package")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = a.unpack(dir, false)
		entries, _ := os.ReadDir(parent)
		if len(entries) != 1 {
			t.Errorf("it wrote outside of its directory: %v", entries)
		}
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
			if d != nil && !d.IsDir() && !d.Type().IsRegular() {
				t.Errorf("%s is %v", path, d.Type())
			}
			return nil
		})
	})
}
