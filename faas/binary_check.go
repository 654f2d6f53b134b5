package faas

import (
	"slices"
	"strings"
)

// CheckLinux returns nil if the binary can be started on Linux on one of the architectures (none given: on any), else an ErrInvalidArgument that says
// what it is and how to build the right one. A script fits every architecture. Whether the shared libraries it needs are there is for [Binary.CheckStatic].
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

// CheckStatic returns nil if the binary needs nothing that is not in it, else an ErrInvalidArgument that names what it needs and says how to
// build it without. A script needs its interpreter.
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

// describe says what the binary is, as in "is a macOS binary for arm64".
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

// buildFor says how the two usual compilers build a static Linux binary.
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
