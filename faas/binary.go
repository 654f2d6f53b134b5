package faas

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"strings"
)

// Protocols says which protocols a binary understands.
type Protocols string

// The protocols of binaries.
const (
	SpeaksAll   Protocols = "all"   // it links faas/job: every protocol of this module
	SpeaksStdio Protocols = "stdio" // one request on stdin, one response on stdout
)

// Arch is a processor architecture, by Go's name for it.
type Arch string

// The architectures that providers offer.
const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// Formats of a [Binary].
const (
	FormatELF     = "elf"
	FormatMachO   = "mach-o"
	FormatPE      = "pe"
	FormatScript  = "script" // text that begins with #!
	FormatUnknown = "unknown"
)

// Binary describes an executable that was read but not run. See [InspectBinary].
type Binary struct {
	Path       string `json:"path"`
	Size       int64  `json:"size"`   // in bytes
	SHA256     string `json:"sha256"` // hex
	Executable bool   `json:"executable"`
	Format     string `json:"format"` // "elf", "script", "mach-o", "pe", or "unknown"
	// OS and Arch are Go's names, such as "linux" and "amd64". They are empty for a script, and if
	// they are unknown.
	OS   string `json:"os,omitempty"`
	Arch Arch   `json:"arch,omitempty"`
	// Static says that the binary needs no dynamic loader and no shared library: it runs on every
	// machine of its OS and Arch.
	Static bool `json:"static"`
	// Interpreter is the path of a script's interpreter or of an ELF file's dynamic loader.
	Interpreter string    `json:"interpreter,omitempty"`
	Libraries   []string  `json:"libraries,omitempty"` // shared libraries that an ELF file names
	Protocols   Protocols `json:"protocols"`
	// Compact says that the binary links a version of faas/job that also takes arguments and gives
	// outputs in the compact form.
	Compact bool `json:"compact,omitempty"`
}

// InspectBinary reads an executable once, from front to back, and describes it. It never runs the
// executable, and does not trust it.
//
// Protocols depends on a text that faas/job puts into every program that links it. A compressed
// executable therefore passes for one that speaks only stdin and stdout. A file of no known
// format is FormatUnknown, without an error.
//
// The error is ErrNotFound if nothing is at path; ErrInvalidArgument if the file cannot be read,
// is not regular, is empty, or is a damaged or unlinked ELF file; and ErrConflict if it changes
// while it is read.
func InspectBinary(path string) (*Binary, error) { return inspectBinary(path, sha256.New()) }

// InspectExecutable is [InspectBinary] without SHA256, which takes most of its time.
func InspectExecutable(path string) (*Binary, error) { return inspectBinary(path, nil) }

func inspectBinary(path string, hash hash.Hash) (*Binary, error) {
	f, size, err := openRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Errorf(ErrNotFound, "inspect binary", "", "%w", err)
	}
	if err != nil {
		return nil, Errorf(ErrInvalidArgument, "inspect binary", "", "%w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, Errorf(ErrInvalidArgument, "inspect binary", "", "%w", err)
	}
	b := &Binary{Path: path, Size: size, Executable: runtime.GOOS == "windows" || info.Mode()&0o111 != 0}
	if err := b.inspect(f, hash); err != nil {
		return nil, err
	}
	return b, nil
}

// inspect sets every field that depends on the content of the file, SHA256 only if it gets a hash
// to use. Path and Size are set.
func (b *Binary) inspect(r io.ReaderAt, hash hash.Hash) error {
	if b.Size == 0 {
		return Errorf(ErrInvalidArgument, "inspect binary", "", "%s is empty", b.Path)
	}
	if err := b.inspectFormat(r); err != nil {
		return Errorf(ErrInvalidArgument, "inspect binary", "", "%s: %w", b.Path, err)
	}
	var content io.Reader = io.NewSectionReader(r, 0, b.Size)
	if hash != nil {
		content = io.TeeReader(content, hash)
	}
	marker, compact := jobMarkers()
	found, isCompact, n, err := scanFor(content, marker, compact)
	if err != nil {
		return Errorf(ErrInvalidArgument, "inspect binary", "", "%w", err)
	}
	if n != b.Size {
		return Errorf(ErrConflict, "inspect binary", "", "%s changed while it was read: it had %d bytes and then %d", b.Path,
			b.Size, n)
	}
	if hash != nil {
		b.SHA256 = hex.EncodeToString(hash.Sum(nil))
	}
	b.Protocols = SpeaksStdio
	if found {
		b.Protocols = SpeaksAll
	}
	b.Compact = isCompact
	return nil
}

// jobMarkers returns the text that marks a program which links faas/job, and the longer text of
// one that takes the compact form. This package does not contain either of them in one piece, and
// the compiler cannot put them together: a program that only links the inspector must not pass
// for a job binary.
func jobMarkers() (any, compact []byte) {
	marker := strings.Replace("blueprint?serverless/job/protocols/1:lambda,azure,http,frames,stdio", "?", "-", 1)
	return []byte(marker), []byte(marker + ";payloads/1:base64,raw")
}

// scanFor reads r to its end. It reports whether needle is in it, whether longer, which begins
// with needle, is in it, and how many bytes it read.
func scanFor(r io.Reader, needle, longer []byte) (found, foundLonger bool, n int64, err error) {
	buf := make([]byte, 256<<10)
	kept := 0 // bytes at the front of buf that an occurrence may begin in
	for {
		read, err := io.ReadFull(r, buf[kept:])
		n += int64(read)
		window := buf[:kept+read]
		found = found || bytes.Contains(window, needle)
		foundLonger = foundLonger || found && bytes.Contains(window, longer)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return found, foundLonger, n, nil
		}
		if err != nil {
			return false, false, n, err
		}
		kept = copy(buf, window[len(window)-(len(longer)-1):])
	}
}

// CheckLinux returns nil if the binary can be started on Linux on one of the architectures, or on
// any if none is given. Otherwise it returns an ErrInvalidArgument that says what the binary is
// and how to build the right one. A script fits every architecture. [Binary.CheckStatic] checks
// for shared libraries.
func (b *Binary) CheckLinux(archs ...Arch) error {
	want := AMD64
	if len(archs) > 0 {
		want = archs[0]
	}
	switch {
	case b.Format == FormatUnknown:
		return b.refuse("is neither an executable nor a script that begins with #!: build a Linux executable%s",
			buildFor(want))
	case b.Format == FormatScript && b.Interpreter == "":
		return b.refuse("is a script that names no interpreter: begin it with a line such as #!/bin/sh")
	case b.Format != FormatScript && b.OS != "linux":
		return b.refuse("is a %s: build it for Linux%s", b.describe(), buildFor(want))
	case b.Format != FormatScript && len(archs) > 0 && !slices.Contains(archs, b.Arch):
		return b.refuse("is a %s, but %s is needed: build it%s", b.describe(), joinArchs(archs), buildFor(want))
	case !b.Executable:
		return b.refuse("has no permission to be executed: chmod +x it")
	}
	return nil
}

// CheckStatic returns nil if the binary needs no other file. Otherwise it returns an
// ErrInvalidArgument that names what it needs and says how to build it without. A script needs
// its interpreter.
func (b *Binary) CheckStatic() error {
	switch {
	case b.Static:
		return nil
	case b.Format == FormatScript:
		return b.refuse("is a script and needs %s, but a binary that needs nothing is asked for", b.Interpreter)
	case len(b.Libraries) > 0:
		return b.refuse("is linked dynamically and needs %s: build it static%s", strings.Join(b.Libraries, ", "),
			buildFor(b.Arch))
	case b.Interpreter != "":
		return b.refuse("is linked dynamically and needs %s: build it static%s", b.Interpreter, buildFor(b.Arch))
	}
	return b.refuse("is a %s, and whether it is static cannot be told", b.describe())
}

func (b *Binary) refuse(format string, args ...any) error {
	return Errorf(ErrInvalidArgument, "check binary", "", "%s "+format, append([]any{b.Path}, args...)...)
}

// describe returns a phrase about the binary, such as "is a macOS binary for arm64".
func (b *Binary) describe() string {
	system := map[string]string{"linux": "Linux", "darwin": "macOS", "windows": "Windows", "android": "Android"}[b.OS]
	if system == "" {
		system = b.OS
	}
	text := strings.TrimSpace(system + " binary")
	if b.Arch != "" {
		text += " for " + string(b.Arch)
	}
	return text
}

func joinArchs(archs []Arch) string {
	names := make([]string, len(archs))
	for i, a := range archs {
		names[i] = string(a)
	}
	return strings.Join(names, " or ")
}

// buildFor returns how the two usual compilers build a static Linux binary.
func buildFor(arch Arch) string {
	if arch == "" {
		arch = AMD64
	}
	text := " with GOOS=linux GOARCH=" + string(arch) + " CGO_ENABLED=0"
	if target := map[Arch]string{AMD64: "x86_64", ARM64: "aarch64"}[arch]; target != "" {
		text += " (in Rust: --target " + target + "-unknown-linux-musl)"
	}
	return text
}
