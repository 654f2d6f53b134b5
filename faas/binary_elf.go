package faas

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The bounds for reading an ELF file's names: a Linux path is no longer, and programs need a few
// hundred libraries at most.
const (
	maxELFName      = 4096
	maxELFLibraries = 1024
)

// elfFile holds what the headers of an ELF file say.
type elfFile struct {
	elf.FileHeader
	interpreter string   // of its dynamic loader; empty without one
	libraries   []string // that it needs
}

// readELF reads the headers of an ELF file of size bytes, and the names that they refer to, in
// constant memory.
//
// debug/elf is for trusted files: it unpacks compressed sections, and copies a name once for each
// header that points at it, so that a file of 2 kB can take gigabytes. What a system's loader
// reads is never compressed.
func readELF(r io.ReaderAt, size int64) (*elfFile, error) {
	e := &elfReader{r: r, size: uint64(size)}
	ident, err := e.at(0, elf.EI_NIDENT)
	if err != nil {
		return nil, err
	}
	f := &elfFile{FileHeader: elf.FileHeader{
		Class: elf.Class(ident[elf.EI_CLASS]), Data: elf.Data(ident[elf.EI_DATA]),
		Version: elf.Version(ident[elf.EI_VERSION]), OSABI: elf.OSABI(ident[elf.EI_OSABI]),
		ABIVersion: ident[elf.EI_ABIVERSION],
	}}
	switch f.Data {
	case elf.ELFDATA2LSB:
		e.order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		e.order = binary.BigEndian
	default:
		return nil, fmt.Errorf("unknown data encoding %d", f.Data)
	}
	f.ByteOrder = e.order
	if f.Class != elf.ELFCLASS32 && f.Class != elf.ELFCLASS64 {
		return nil, fmt.Errorf("unknown class %d", f.Class)
	}
	e.wide = f.Class == elf.ELFCLASS64
	if f.Version != elf.EV_CURRENT {
		return nil, fmt.Errorf("unknown version %d", f.Version)
	}
	programs, sections, err := e.header(f)
	if err != nil {
		return nil, err
	}
	if err := e.loader(f, programs); err != nil {
		return nil, err
	}
	return f, e.needed(f, sections)
}

// elfReader reads parts of an ELF file.
type elfReader struct {
	r     io.ReaderAt
	size  uint64
	order binary.ByteOrder
	wide  bool // 64 bits
}

// elfTable is a table of headers.
type elfTable struct{ at, count, each uint64 }

// elfSection holds the fields of a section's header that are used here.
type elfSection struct {
	kind     elf.SectionType
	flags    elf.SectionFlag
	at, size uint64
	link     uint32
}

// at returns n bytes of the file.
func (e *elfReader) at(offset, n uint64) ([]byte, error) {
	if offset > e.size || n > e.size-offset {
		return nil, fmt.Errorf("%d bytes from byte %d on reach beyond its %d", n, offset, e.size)
	}
	b := make([]byte, n)
	if _, err := e.r.ReadAt(b, int64(offset)); err != nil {
		return nil, err
	}
	return b, nil
}

// word reads a number as long as an address, at one offset in a file of 32 bits and at the other
// in one of 64.
func (e *elfReader) word(b []byte, narrow, wide int) uint64 {
	if e.wide {
		return e.order.Uint64(b[wide:])
	}
	return uint64(e.order.Uint32(b[narrow:]))
}

// pick returns the offset for a file of 32 bits or the one for 64.
func (e *elfReader) pick(narrow, wide int) int {
	if e.wide {
		return wide
	}
	return narrow
}

// header reads the file's header.
func (e *elfReader) header(f *elfFile) (programs, sections elfTable, err error) {
	h, err := e.at(0, uint64(e.pick(52, 64)))
	if err != nil {
		return programs, sections, err
	}
	f.Type, f.Machine, f.Entry = elf.Type(e.order.Uint16(h[16:])), elf.Machine(e.order.Uint16(h[18:])), e.word(h, 24, 24)
	half := func(narrow, wide int) uint64 { return uint64(e.order.Uint16(h[e.pick(narrow, wide):])) }
	programs = elfTable{e.word(h, 28, 32), half(44, 56), half(42, 54)}
	sections = elfTable{e.word(h, 32, 40), half(48, 60), half(46, 58)}
	if sections.at > 0 && sections.count == 0 { // there are more than fit the header: the first section says how many
		first, err := e.at(sections.at, uint64(e.pick(40, 64)))
		if err != nil {
			return programs, sections, err
		}
		if sections.count = e.section(first).size; sections.count < uint64(elf.SHN_LORESERVE) {
			return programs, sections, errors.New("it has no sections where it says that they are")
		}
	}
	err = errors.Join(e.fits("program", programs, e.pick(32, 56)), e.fits("section", sections, e.pick(40, 64)))
	return programs, sections, err
}

// fits checks that a table is within the file, and its headers long enough.
func (e *elfReader) fits(what string, t elfTable, least int) error {
	switch {
	case t.count == 0:
		return nil
	case t.each < uint64(least):
		return fmt.Errorf("its %s headers have %d bytes each, less than %d", what, t.each, least)
	case t.at == 0 || t.at > e.size || t.count > (e.size-t.at)/t.each:
		return fmt.Errorf("its %d %s headers reach beyond its %d bytes", t.count, what, e.size)
	}
	return nil
}

// each calls f for every header of a table, until f returns false. The next call reuses the
// bytes.
func (e *elfReader) each(t elfTable, f func(header []byte) bool) error {
	b := make([]byte, t.each)
	r := bufio.NewReader(io.NewSectionReader(e.r, int64(t.at), int64(t.count*t.each)))
	for range t.count {
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		if !f(b) {
			return nil
		}
	}
	return nil
}

// loader reads which dynamic loader the first program header of type PT_INTERP names.
func (e *elfReader) loader(f *elfFile, programs elfTable) (err error) {
	failed := e.each(programs, func(p []byte) bool {
		if elf.ProgType(e.order.Uint32(p)) != elf.PT_INTERP {
			return true
		}
		f.interpreter, err = e.text(e.word(p, 4, 8), e.word(p, 16, 32))
		return false
	})
	return errors.Join(failed, err)
}

func (e *elfReader) section(b []byte) elfSection {
	return elfSection{
		kind: elf.SectionType(e.order.Uint32(b[4:])), flags: elf.SectionFlag(e.word(b, 8, 8)),
		at: e.word(b, 16, 24), size: e.word(b, 20, 32), link: e.order.Uint32(b[e.pick(24, 40):]),
	}
}

// needed reads the libraries that the first dynamic section names.
func (e *elfReader) needed(f *elfFile, sections elfTable) error {
	var dynamic *elfSection
	if err := e.each(sections, func(b []byte) bool {
		if s := e.section(b); s.kind == elf.SHT_DYNAMIC {
			dynamic = &s
		}
		return dynamic == nil
	}); err != nil || dynamic == nil {
		return err
	}
	if dynamic.link == 0 || uint64(dynamic.link) >= sections.count {
		return fmt.Errorf("its dynamic section's names are in section %d, which it does not have", dynamic.link)
	}
	b, err := e.at(sections.at+uint64(dynamic.link)*sections.each, sections.each)
	if err != nil {
		return err
	}
	names := e.section(b)
	for _, s := range []*elfSection{dynamic, &names} {
		switch {
		case s.kind == elf.SHT_NOBITS || s.flags&elf.SHF_COMPRESSED != 0:
			return errors.New("its dynamic section or the names in it are not stored as they are loaded")
		case s.at > e.size || s.size > e.size-s.at:
			return fmt.Errorf("its dynamic section or the names in it reach beyond its %d bytes", e.size)
		}
	}
	each := uint64(e.pick(8, 16))
	if dynamic.size%each != 0 {
		return fmt.Errorf("its dynamic section has %d bytes, no multiple of %d", dynamic.size, each)
	}
	failed := e.each(elfTable{dynamic.at, dynamic.size / each, each}, func(entry []byte) bool {
		switch elf.DynTag(e.word(entry, 0, 0)) {
		case elf.DT_NULL:
			return false
		case elf.DT_NEEDED:
			at, name := e.word(entry, 4, 8), ""
			switch {
			case len(f.libraries) == maxELFLibraries:
				err = fmt.Errorf("it needs more than %d libraries", maxELFLibraries)
			case at >= names.size:
				err = errors.New("the name of a library that it needs is missing")
			default:
				name, err = e.text(names.at+at, names.size-at)
			}
			f.libraries = append(f.libraries, name)
		}
		return err == nil
	})
	return errors.Join(failed, err)
}

// text returns the text at an offset. It ends at a NUL, or after most bytes.
func (e *elfReader) text(offset, most uint64) (string, error) {
	if offset > e.size {
		return "", fmt.Errorf("a name at byte %d is beyond its %d bytes", offset, e.size)
	}
	b, err := e.at(offset, min(most, maxELFName, e.size-offset))
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b), err
}
