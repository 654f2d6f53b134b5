package faas

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// inspectFormat reads format, system, architecture and linkage from the headers of the file.
func (b *Binary) inspectFormat(r io.ReaderAt) error {
	head := make([]byte, min(b.Size, 4096))
	if _, err := r.ReadAt(head, 0); err != nil && err != io.EOF {
		return err
	}
	b.Format = FormatUnknown
	switch {
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		b.Format = FormatELF
		return b.inspectELF(io.NewSectionReader(r, 0, b.Size))
	case bytes.HasPrefix(head, []byte("#!")):
		b.Format = FormatScript
		line, _, _ := bytes.Cut(head[2:], []byte{'\n'})
		if fields := bytes.Fields(line); len(fields) > 0 {
			b.Interpreter = string(fields[0])
		}
	case isMachO(head):
		b.Format, b.OS = FormatMachO, "darwin"
		b.Arch = machOArch(head)
	default:
		if arch, ok := peArch(head); ok {
			b.Format, b.OS, b.Arch = FormatPE, "windows", arch
		}
	}
	return nil
}

func (b *Binary) inspectELF(r io.ReaderAt) error {
	f, err := readELF(r, b.Size)
	if err != nil {
		return fmt.Errorf("a damaged or incomplete ELF file: %w", err)
	}
	b.Arch, b.Interpreter, b.Libraries = elfArch(f.FileHeader), f.interpreter, f.libraries
	switch {
	case f.Type == elf.ET_EXEC:
	case f.Type == elf.ET_DYN && (f.Entry != 0 || b.Interpreter != ""): // position-independent
	case f.Type == elf.ET_DYN:
		return errors.New("a shared library, not an executable")
	case f.Type == elf.ET_REL:
		return errors.New("an object file that is not linked yet, not an executable")
	default:
		return fmt.Errorf("an ELF file of type %v, not an executable", f.Type)
	}
	b.Static = b.Interpreter == "" && len(b.Libraries) == 0
	b.OS = elfOS(f.OSABI, b.Interpreter)
	return nil
}

// elfOS returns the system. It takes everything else for Linux, since neither Linux's compilers
// nor Go mark their files.
func elfOS(abi elf.OSABI, interpreter string) string {
	switch abi {
	case elf.ELFOSABI_NONE, elf.ELFOSABI_LINUX:
		switch {
		case strings.HasPrefix(interpreter, "/system/bin/linker"):
			return "android"
		case strings.HasSuffix(interpreter, "ld-elf.so.2"):
			return "dragonfly"
		case strings.HasPrefix(interpreter, "/lib/amd64/"), strings.HasPrefix(interpreter, "/usr/lib/amd64/"):
			return "illumos"
		}
		return "linux"
	case elf.ELFOSABI_FREEBSD:
		return "freebsd"
	case elf.ELFOSABI_NETBSD:
		return "netbsd"
	case elf.ELFOSABI_OPENBSD:
		return "openbsd"
	case elf.ELFOSABI_SOLARIS:
		return "solaris"
	}
	return strings.ToLower(strings.TrimPrefix(abi.String(), "ELFOSABI_"))
}

func elfArch(f elf.FileHeader) Arch {
	wide, little := f.Class == elf.ELFCLASS64, f.Data == elf.ELFDATA2LSB
	type machine struct {
		elf.Machine
		wide, little bool
	}
	switch (machine{f.Machine, wide, little}) {
	case machine{elf.EM_X86_64, true, true}:
		return AMD64
	case machine{elf.EM_AARCH64, true, true}:
		return ARM64
	case machine{elf.EM_386, false, true}:
		return "386"
	case machine{elf.EM_ARM, false, true}:
		return "arm"
	case machine{elf.EM_RISCV, true, true}:
		return "riscv64"
	case machine{elf.EM_PPC64, true, true}:
		return "ppc64le"
	case machine{elf.EM_PPC64, true, false}:
		return "ppc64"
	case machine{elf.EM_S390, true, false}:
		return "s390x"
	case machine{elf.EM_LOONGARCH, true, true}:
		return "loong64"
	case machine{elf.EM_MIPS, false, false}:
		return "mips"
	case machine{elf.EM_MIPS, false, true}:
		return "mipsle"
	case machine{elf.EM_MIPS, true, false}:
		return "mips64"
	case machine{elf.EM_MIPS, true, true}:
		return "mips64le"
	}
	name := strings.ToLower(strings.TrimPrefix(f.Machine.String(), "EM_"))
	return Arch(fmt.Sprintf("%s/%d-bit/%s", name, map[bool]int{false: 32, true: 64}[wide],
		map[bool]string{false: "big-endian", true: "little-endian"}[little]))
}

// isMachO recognizes the four kinds of thin Mach-O files, and the fat ones. A Java class begins
// like a fat file, but has a version of at least 45 in place of the number of architectures.
func isMachO(head []byte) bool {
	if len(head) < 8 {
		return false
	}
	switch binary.BigEndian.Uint32(head) {
	case 0xfeedface, 0xfeedfacf, 0xcefaedfe, 0xcffaedfe:
		return true
	case 0xcafebabe, 0xcafebabf:
		return binary.BigEndian.Uint32(head[4:]) < 45
	}
	return false
}

// machOArch is empty for a fat file, which has several.
func machOArch(head []byte) Arch {
	var cpu uint32
	switch binary.BigEndian.Uint32(head) {
	case 0xcefaedfe, 0xcffaedfe:
		cpu = binary.LittleEndian.Uint32(head[4:])
	case 0xfeedface, 0xfeedfacf:
		cpu = binary.BigEndian.Uint32(head[4:])
	}
	switch cpu {
	case 0x01000007:
		return AMD64
	case 0x0100000c:
		return ARM64
	case 7:
		return "386"
	}
	return ""
}

func peArch(head []byte) (Arch, bool) {
	if len(head) < 0x40 || !bytes.HasPrefix(head, []byte("MZ")) {
		return "", false
	}
	at := uint64(binary.LittleEndian.Uint32(head[0x3c:]))
	if at+6 > uint64(len(head)) || string(head[at:at+4]) != "PE\x00\x00" {
		return "", false
	}
	switch binary.LittleEndian.Uint16(head[at+4:]) {
	case 0x8664:
		return AMD64, true
	case 0xaa64:
		return ARM64, true
	case 0x14c:
		return "386", true
	}
	return "", true
}
