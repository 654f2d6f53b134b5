//go:build unix

package platform

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// Refusing a small upload whose sections claim to unpack to gigabytes costs no more than its size,
// also when a platform finds it at its start.
func TestAnELFBombCostsWhatItWeighs(t *testing.T) {
	var content bytes.Buffer
	const unpacked = 64 << 20
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	if _, err := z.Write(make([]byte, unpacked)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	size := uint64(24 + packed.Len())
	sections := []elf.Section64{{}, {Type: uint32(elf.SHT_DYNAMIC), Flags: uint64(elf.SHF_COMPRESSED), Off: 64,
		Size: size, Link: 2}, {Type: uint32(elf.SHT_STRTAB), Off: 8, Size: 1}}
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Entry: 1, Shoff: 64 + size,
		Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	for _, part := range []any{h, elf.Chdr64{Type: uint32(elf.COMPRESS_ZLIB), Size: unpacked, Addralign: 1},
		packed.Bytes(), sections} {
		if err := binary.Write(&content, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	s := newServer(t)
	pkg := makeZip(t, file{"bootstrap", 0o755, content.String()})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a := s.put("f", pkg)
	runtime.ReadMemStats(&after)
	if text, _ := a.body["error"].(string); a.status != http.StatusBadRequest || strings.Contains(text, s.p.Dir()) {
		t.Errorf("%d %v", a.status, a.body)
	}
	if cost := after.TotalAlloc - before.TotalAlloc; cost > 16<<20 {
		t.Errorf("%d bytes were allocated for an upload of %d", cost, len(pkg))
	}
}
