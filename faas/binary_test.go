package faas

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tangle-network/blueprint-serverless/internal/alloctest"
)

// elfSpec describes a minimal ELF file of 64 bits, little-endian.
type elfSpec struct {
	machine elf.Machine
	kind    elf.Type
	osabi   elf.OSABI
	interp  string
	libs    []string
	entry   uint64
}

func (s elfSpec) bytes() []byte {
	le := binary.LittleEndian
	var body []byte // what follows the headers
	const headers = 64 + 56
	add := func(data []byte) (offset uint64) {
		offset = uint64(headers + len(body))
		body = append(body, data...)
		return offset
	}
	prog := elf.Prog64{Type: uint32(elf.PT_LOAD), Off: 0, Filesz: headers}
	if s.interp != "" {
		text := append([]byte(s.interp), 0)
		prog = elf.Prog64{Type: uint32(elf.PT_INTERP), Off: add(text), Filesz: uint64(len(text)), Memsz: uint64(len(text))}
	}
	names := []byte("\x00.dynstr\x00.dynamic\x00.shstrtab\x00")
	strtab := []byte{0}
	var dynamic []byte
	for _, lib := range s.libs {
		dynamic = le.AppendUint64(dynamic, uint64(elf.DT_NEEDED))
		dynamic = le.AppendUint64(dynamic, uint64(len(strtab)))
		strtab = append(append(strtab, lib...), 0)
	}
	dynamic = append(dynamic, make([]byte, 16)...)
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_STRTAB), Off: add(strtab), Size: uint64(len(strtab))},
		{Name: 9, Type: uint32(elf.SHT_DYNAMIC), Off: add(dynamic), Size: uint64(len(dynamic)), Link: 1},
		{Name: 18, Type: uint32(elf.SHT_STRTAB), Off: add(names), Size: uint64(len(names))},
	}
	h := elf.Header64{
		Type: uint16(s.kind), Machine: uint16(s.machine), Version: 1, Entry: s.entry, Phoff: 64,
		Shoff:  uint64(headers + len(body)),
		Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: 3,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	h.Ident[elf.EI_OSABI] = byte(s.osabi)
	var out bytes.Buffer
	for _, part := range []any{h, prog, body, sections} {
		if err := binary.Write(&out, le, part); err != nil {
			panic(err)
		}
	}
	return out.Bytes()
}

func peFile(machine uint16) []byte {
	text := make([]byte, 0x100)
	copy(text, "MZ")
	text[0x3c] = 0x80
	copy(text[0x80:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(text[0x84:], machine)
	return text
}

func executable(t *testing.T, content []byte) string {
	t.Helper()
	path := writeFile(t, filepath.Join(t.TempDir(), "job"), content)
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

var staticLinux = elfSpec{machine: elf.EM_X86_64, kind: elf.ET_EXEC, entry: 0x401000}

func TestInspectBinaryTellsWhatAFileIs(t *testing.T) {
	for name, tt := range map[string]struct {
		content []byte
		want    Binary
	}{
		"static": {staticLinux.bytes(), Binary{Format: "elf", OS: "linux", Arch: AMD64, Static: true}},
		"static position-independent": {elfSpec{machine: elf.EM_AARCH64, kind: elf.ET_DYN, entry: 1}.bytes(),
			Binary{Format: "elf", OS: "linux", Arch: ARM64, Static: true}},
		"dynamic": {elfSpec{machine: elf.EM_X86_64, kind: elf.ET_DYN, entry: 1, interp: "/lib64/ld-linux-x86-64.so.2",
			libs: []string{"libssl.so.3", "libc.so.6"}}.bytes(),
			Binary{Format: "elf", OS: "linux", Arch: AMD64, Interpreter: "/lib64/ld-linux-x86-64.so.2",
				Libraries: []string{"libssl.so.3", "libc.so.6"}}},
		"loader without libraries": {elfSpec{machine: elf.EM_X86_64, kind: elf.ET_DYN, entry: 1,
			interp: "/lib64/ld-linux-x86-64.so.2"}.bytes(),
			Binary{Format: "elf", OS: "linux", Arch: AMD64, Interpreter: "/lib64/ld-linux-x86-64.so.2"}},
		"freebsd": {elfSpec{machine: elf.EM_X86_64, kind: elf.ET_EXEC, osabi: elf.ELFOSABI_FREEBSD, entry: 1}.bytes(),
			Binary{Format: "elf", OS: "freebsd", Arch: AMD64, Static: true}},
		"android": {elfSpec{machine: elf.EM_AARCH64, kind: elf.ET_DYN, interp: "/system/bin/linker64", entry: 1}.bytes(),
			Binary{Format: "elf", OS: "android", Arch: ARM64, Interpreter: "/system/bin/linker64"}},
		"riscv": {elfSpec{machine: elf.EM_RISCV, kind: elf.ET_EXEC, entry: 1}.bytes(),
			Binary{Format: "elf", OS: "linux", Arch: "riscv64", Static: true}},
		"odd machine": {elfSpec{machine: elf.EM_SPARCV9, kind: elf.ET_EXEC, entry: 1}.bytes(),
			Binary{Format: "elf", OS: "linux", Arch: "sparcv9/64-bit/little-endian", Static: true}},
		"macOS on ARM": {[]byte("\xcf\xfa\xed\xfe\x0c\x00\x00\x01more"),
			Binary{Format: "mach-o", OS: "darwin", Arch: ARM64}},
		"macOS on Intel": {[]byte("\xcf\xfa\xed\xfe\x07\x00\x00\x01more"),
			Binary{Format: "mach-o", OS: "darwin", Arch: AMD64}},
		"macOS on both":       {[]byte("\xca\xfe\xba\xbe\x00\x00\x00\x02more"), Binary{Format: "mach-o", OS: "darwin"}},
		"Java":                {[]byte("\xca\xfe\xba\xbe\x00\x00\x00\x41more"), Binary{Format: "unknown"}},
		"Windows":             {peFile(0x8664), Binary{Format: "pe", OS: "windows", Arch: AMD64}},
		"DOS":                 {[]byte("MZ and nothing more"), Binary{Format: "unknown"}},
		"script":              {[]byte("#!/bin/sh\ncat\n"), Binary{Format: "script", Interpreter: "/bin/sh"}},
		"script with options": {[]byte("#! /usr/bin/env python3"), Binary{Format: "script", Interpreter: "/usr/bin/env"}},
		"script of nothing":   {[]byte("#!\n"), Binary{Format: "script"}},
		"text":                {[]byte("hello"), Binary{Format: "unknown"}},
		"one byte":            {[]byte{0}, Binary{Format: "unknown"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := executable(t, tt.content)
			got, err := InspectBinary(path)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(tt.content)
			tt.want.Path, tt.want.Size, tt.want.SHA256 = path, int64(len(tt.content)), hex.EncodeToString(sum[:])
			tt.want.Executable, tt.want.Protocols = true, SpeaksStdio
			if diff := cmp.Diff(&tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			tt.want.SHA256 = ""
			if got, err = InspectExecutable(path); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("InspectExecutable: %s", diff)
			}
		})
	}
}

func TestInspectBinaryRefusesWhatIsNoExecutableFile(t *testing.T) {
	cut := staticLinux.bytes()
	huge := slices.Clone(cut)
	binary.LittleEndian.PutUint16(huge[60:], 0xfffe) // sections
	shared := elfSpec{machine: elf.EM_X86_64, kind: elf.ET_DYN, libs: []string{"libc.so.6"}}.bytes()
	object := elfSpec{machine: elf.EM_X86_64, kind: elf.ET_REL}.bytes()
	core := elfSpec{machine: elf.EM_X86_64, kind: elf.ET_CORE}.bytes()
	for name, tt := range map[string]struct {
		content []byte
		want    string
	}{
		"empty":          {nil, "is empty"},
		"only magic":     {cut[:4], "damaged or incomplete ELF"},
		"cut header":     {cut[:40], "damaged or incomplete ELF"},
		"cut sections":   {cut[:len(cut)-70], "damaged or incomplete ELF"},
		"many sections":  {huge, "damaged or incomplete ELF"},
		"shared library": {shared, "a shared library"},
		"object file":    {object, "an object file"},
		"core dump":      {core, "ET_CORE"},
	} {
		path := executable(t, tt.content)
		_, err := InspectBinary(path)
		if !errors.Is(err, ErrInvalidArgument) || !strings.Contains(err.Error(), tt.want) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := InspectBinary(t.TempDir()); !errors.Is(err, ErrInvalidArgument) ||
		!strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := InspectBinary(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, ErrNotFound) ||
		!errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestJobBinariesAreKnownWhereverTheMarkerLies(t *testing.T) {
	const chunk = 256 << 10
	marker, compact := jobMarkers()
	for _, marker := range [][]byte{marker, compact} {
		isCompact := len(marker) == len(compact)
		for _, at := range []int{0, 1, chunk - len(marker), chunk - len(marker) + 1, chunk - 1, chunk,
			2*chunk - len(marker) - 3, 2*chunk + 5} {
			content := make([]byte, 3*chunk)
			copy(content[at:], marker)
			got, err := InspectBinary(executable(t, content))
			if err != nil || got.Protocols != SpeaksAll || got.Compact != isCompact {
				t.Errorf("marker at %d: %+v, %v", at, got, err)
			}
			content[at+len(marker)/4]++
			got, err = InspectBinary(executable(t, content))
			if err != nil || got.Protocols != SpeaksStdio || got.Compact {
				t.Errorf("no marker at %d: %+v, %v", at, got, err)
			}
		}
		got, err := InspectBinary(executable(t, append(make([]byte, 100), marker...)))
		if err != nil || got.Protocols != SpeaksAll || got.Compact != isCompact {
			t.Errorf("marker at the end: %+v, %v", got, err)
		}
	}
}

// A program that links the inspector but not faas/job must not pass for a job binary. One that
// links faas/job must.
func TestRealProgramsAreToldApart(t *testing.T) {
	if testing.Short() {
		t.Skip("builds two programs")
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command: ", err)
	}
	for name, tt := range map[string]struct {
		source string
		want   Protocols
	}{
		"inspector": {`package main
import ("os"; "github.com/tangle-network/blueprint-serverless/faas")
func main() { b, err := faas.InspectBinary(os.Args[0]); println(b, err) }`, SpeaksStdio},
		"job": {`package main
import "github.com/tangle-network/blueprint-serverless/faas/job"
func main() { job.Main(nil) }`, SpeaksAll},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			main := writeFile(t, filepath.Join(dir, "main.go"), []byte(tt.source))
			exe := filepath.Join(dir, "prog")
			build := exec.CommandContext(t.Context(), goTool, "build", "-ldflags=-s -w", "-o", exe, main)
			build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			got, err := InspectBinary(exe)
			if err != nil {
				t.Fatal(err)
			}
			if got.Protocols != tt.want || got.OS != runtime.GOOS || got.Arch != Arch(runtime.GOARCH) {
				t.Errorf("it passes for %+v", got)
			}
			if runtime.GOOS == "linux" && !got.Static {
				t.Errorf("a program built without cgo is not seen as static: %+v", got)
			}
		})
	}
}

func TestChecksSayWhatToDo(t *testing.T) {
	linux := Binary{Path: "job", Executable: true, Format: "elf", OS: "linux", Arch: AMD64, Static: true}
	dynamic := linux
	dynamic.Static, dynamic.Interpreter, dynamic.Libraries = false, "/lib64/ld-linux-x86-64.so.2",
		[]string{"libssl.so.3", "libc.so.6"}
	loader := dynamic
	loader.Libraries = nil
	script := Binary{Path: "job", Executable: true, Format: "script", Interpreter: "/bin/sh"}
	mac := Binary{Path: "job", Executable: true, Format: "mach-o", OS: "darwin", Arch: ARM64}
	plain := linux
	plain.Executable = false
	const amd64 = "with GOOS=linux GOARCH=amd64 CGO_ENABLED=0 (in Rust: --target x86_64-unknown-linux-musl)"
	const arm64 = "with GOOS=linux GOARCH=arm64 CGO_ENABLED=0 (in Rust: --target aarch64-unknown-linux-musl)"
	for name, tt := range map[string]struct {
		got  error
		want string
	}{
		"fits":            {linux.CheckLinux(AMD64), ""},
		"fits one of two": {linux.CheckLinux(ARM64, AMD64), ""},
		"any":             {linux.CheckLinux(), ""},
		"dynamic fits":    {dynamic.CheckLinux(AMD64), ""},
		"script fits all": {script.CheckLinux(ARM64), ""},
		"static":          {linux.CheckStatic(), ""},
		"macOS":           {mac.CheckLinux(ARM64), "job is a macOS binary for arm64: build it for Linux " + arm64},
		"macOS, any":      {mac.CheckLinux(), "job is a macOS binary for arm64: build it for Linux " + amd64},
		"other processor": {linux.CheckLinux(ARM64),
			"job is a Linux binary for amd64, but arm64 is needed: build it " + arm64},
		"other two": {linux.CheckLinux("riscv64", ARM64),
			"job is a Linux binary for amd64, but riscv64 or arm64 is needed: build it with GOOS=linux GOARCH=riscv64 " +
				"CGO_ENABLED=0"},
		"text": {(&Binary{Path: "job", Format: "unknown"}).CheckLinux(),
			"job is neither an executable nor a script that begins with #!: build a Linux executable " + amd64},
		"empty script": {(&Binary{Path: "job", Format: "script"}).CheckLinux(),
			"job is a script that names no interpreter: begin it with a line such as #!/bin/sh"},
		"no permission": {plain.CheckLinux(AMD64), "job has no permission to be executed: chmod +x it"},
		"dynamic": {dynamic.CheckStatic(),
			"job is linked dynamically and needs libssl.so.3, libc.so.6: build it static " + amd64},
		"loader": {loader.CheckStatic(),
			"job is linked dynamically and needs /lib64/ld-linux-x86-64.so.2: build it static " + amd64},
		"script not static": {script.CheckStatic(),
			"job is a script and needs /bin/sh, but a binary that needs nothing is asked for"},
		"static not to tell": {mac.CheckStatic(), "job is a macOS binary for arm64, and whether it is static cannot be told"},
	} {
		if tt.want == "" {
			if tt.got != nil {
				t.Errorf("%s: %v", name, tt.got)
			}
			continue
		}
		if tt.got == nil || tt.got.Error() != "faas: check binary: "+tt.want || !errors.Is(tt.got, ErrInvalidArgument) {
			t.Errorf("%s:\n got %v\nwant faas: check binary: %s", name, tt.got, tt.want)
		}
	}
}

// elfBomb is a small ELF file whose sections say that they are large.
type elfBomb struct {
	dynamic, names, sectionNames []byte // the contents of .dynamic, of the table that it is linked to, and of .shstrtab
	compressed                   int    // which of them is: its index above and 1
	sections                     int    // how many more there are, all with the first name
}

func (s elfBomb) bytes() []byte {
	le := binary.LittleEndian
	const unpacked = 16 << 20
	parts := [][]byte{s.dynamic, s.names, s.sectionNames}
	if i := s.compressed - 1; i >= 0 {
		var b bytes.Buffer
		if err := binary.Write(&b, le, elf.Chdr64{Type: uint32(elf.COMPRESS_ZLIB), Size: unpacked,
			Addralign: 1}); err != nil {
			panic(err)
		}
		z := zlib.NewWriter(&b)
		z.Write(make([]byte, unpacked))
		z.Close()
		parts[i] = b.Bytes()
	}
	kinds := []elf.SectionType{elf.SHT_DYNAMIC, elf.SHT_STRTAB, elf.SHT_STRTAB}
	headers := []elf.Section64{{}}
	at := uint64(64)
	for i, part := range parts {
		h := elf.Section64{Type: uint32(kinds[i]), Off: at, Size: uint64(len(part)), Link: 2}
		if s.compressed == i+1 {
			h.Flags = uint64(elf.SHF_COMPRESSED)
		}
		headers, at = append(headers, h), at+uint64(len(part))
	}
	headers = append(headers, make([]elf.Section64, s.sections)...)
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: 1, Shoff: at, Ehsize: 64, Shentsize: 64,
		Shnum: uint16(len(headers)), Shstrndx: 3,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	var out bytes.Buffer
	for _, part := range []any{h, parts[0], parts[1], parts[2], headers} {
		if err := binary.Write(&out, le, part); err != nil {
			panic(err)
		}
	}
	return out.Bytes()
}

// mostForHeaders is the size of the largest number of names of the largest length, with their
// buffers, in bytes.
const mostForHeaders = 3 * maxELFLibraries * maxELFName

// The headers of a file are not trusted: a platform inspects an upload before it does anything
// else with it.
func TestInspectBinaryTakesNoMoreMemoryThanTheFile(t *testing.T) {
	long := append(bytes.Repeat([]byte{'x'}, 200<<10), 0)
	var needed []byte // the same long name again and again
	for range 2000 {
		needed = binary.LittleEndian.AppendUint64(needed, uint64(elf.DT_NEEDED))
		needed = binary.LittleEndian.AppendUint64(needed, 1)
	}
	for name, tt := range map[string]struct {
		content []byte
		want    string // in the error; empty: there is none
	}{
		"compressed dynamic section": {elfBomb{names: []byte{0}, sectionNames: []byte{0}, compressed: 1}.bytes(),
			"not stored as they are loaded"},
		"compressed library names": {elfBomb{names: []byte{0}, sectionNames: []byte{0}, compressed: 2}.bytes(),
			"not stored as they are loaded"},
		"compressed section names": {elfBomb{names: []byte{0}, sectionNames: []byte{0}, compressed: 3}.bytes(), ""},
		"a long library, many times": {elfBomb{dynamic: needed, names: long, sectionNames: []byte{0}}.bytes(),
			"more than 1024 libraries"},
		"a long library, some times": {elfBomb{dynamic: needed[:16*1000], names: long, sectionNames: []byte{0}}.bytes(), ""},
		"a long section name":        {elfBomb{names: []byte{0}, sectionNames: long, sections: 2000}.bytes(), ""},
		"more sections than the file": {slices.Concat(staticLinux.bytes()[:60], []byte{0xff, 0xfe},
			staticLinux.bytes()[62:]), "headers reach beyond"},
		"a fat Mach-O file of many": {append([]byte("\xca\xfe\xba\xbe\x00\x00\x00\x2c"),
			bytes.Repeat([]byte{0xff}, 4096)...), ""},
		"a PE file of nothing else": {append(peFile(0x8664), bytes.Repeat([]byte{0xff}, 4096)...), ""},
		"a script of one long line": {append([]byte("#!"), bytes.Repeat([]byte{'x'}, 1<<20)...), ""},
	} {
		b := Binary{Path: "job", Size: int64(len(tt.content))}
		var err error
		cost := alloctest.Bytes(func() { err = b.inspectFormat(bytes.NewReader(tt.content)) })
		if cost > mostForHeaders {
			t.Errorf("%s: %d bytes were allocated for a file of %d", name, cost, b.Size)
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestELFFilesAreReadAsTheStandardLibraryDoes(t *testing.T) {
	files := map[string][]byte{
		"dynamic": elfSpec{machine: elf.EM_X86_64, kind: elf.ET_DYN, entry: 1, interp: "/lib64/ld-linux-x86-64.so.2",
			libs: []string{"libssl.so.3", "libc.so.6"}}.bytes(),
		"static": staticLinux.bytes(),
	}
	for _, path := range []string{"/proc/self/exe", "/bin/ls", "/bin/sh", "/usr/bin/git", "/usr/bin/python3"} {
		if content, err := os.ReadFile(path); err == nil { // as far as this system has them
			files[path] = content
		}
	}
	for name, content := range files {
		want, err := elf.NewFile(bytes.NewReader(content))
		if err != nil {
			continue // no ELF file
		}
		libraries, err := want.ImportedLibraries()
		if err != nil {
			t.Fatal(err)
		}
		interpreter := ""
		for _, p := range want.Progs {
			if p.Type == elf.PT_INTERP {
				text, err := io.ReadAll(p.Open())
				if err != nil {
					t.Fatal(err)
				}
				interpreter = strings.TrimRight(string(text), "\x00")
			}
		}
		got, err := readELF(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want.FileHeader, got.FileHeader); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff(libraries, got.libraries, cmpopts.EquateEmpty()); diff != "" || got.interpreter != interpreter {
			t.Errorf("%s: its loader is %q, want %q: %s", name, got.interpreter, interpreter, diff)
		}
	}
}

func FuzzInspectBinary(f *testing.F) {
	f.Add(staticLinux.bytes())
	f.Add(elfSpec{machine: elf.EM_X86_64, kind: elf.ET_DYN, entry: 1, interp: "/lib64/ld-linux-x86-64.so.2",
		libs: []string{"libc.so.6"}}.bytes())
	f.Add(peFile(0x8664))
	f.Add([]byte("\xca\xfe\xba\xbe\x00\x00\x00\x02more"))
	f.Add([]byte("#! /bin/sh"))
	f.Add(elfBomb{dynamic: make([]byte, 32), names: []byte("\x00libc.so.6\x00"), sectionNames: []byte{0},
		sections: 3}.bytes())
	f.Fuzz(func(t *testing.T, content []byte) {
		b := Binary{Path: "job", Size: int64(len(content))}
		if cost := alloctest.Roughly(func() { _ = b.inspectFormat(bytes.NewReader(content)) }); cost > mostForHeaders+
			alloctest.Slack {
			t.Fatalf("%d bytes were allocated for a file of %d", cost, b.Size)
		}
		if err := b.inspect(bytes.NewReader(content), sha256.New()); err != nil && !errors.Is(err, ErrInvalidArgument) {
			t.Fatal(err)
		}
		b.CheckLinux(AMD64)
		b.CheckStatic()
	})
}
