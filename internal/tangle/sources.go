package tangle

import "strconv"

// SourceKind is how a blueprint is run.
type SourceKind uint8

// The kinds.
const (
	SourceContainer SourceKind = 0
	SourceWasm      SourceKind = 1
	SourceNative    SourceKind = 2
)

// String returns the kind in lower case.
func (k SourceKind) String() string { return enumName(uint8(k), "container", "wasm", "native") }

// Arch is the architecture of a binary, numbered as in the contract.
type Arch uint8

// String returns Go's name of the architecture if Go has one.
func (a Arch) String() string {
	return enumName(uint8(a), "wasm", "wasm64", "wasi32", "wasi64", "386", "amd64", "arm", "arm64", "riscv32", "riscv64")
}

// OS is the operating system of a binary, numbered as in the contract.
type OS uint8

// String returns Go's name of the operating system if Go has one.
func (o OS) String() string {
	return enumName(uint8(o), "unknown", "linux", "windows", "darwin", "bsd")
}

func enumName(n uint8, names ...string) string {
	if int(n) < len(names) {
		return names[n]
	}
	return "unknown(" + strconv.Itoa(int(n)) + ")"
}

// Source is a way to get and run a blueprint. Only the member of its kind is valid.
type Source struct {
	Kind      SourceKind
	Container Container
	Wasm      Wasm
	Native    Native
	Testing   Testing
	Binaries  []Binary
}

// Container is an image in a registry.
type Container struct{ Registry, Image, Tag string }

// Wasm is a WebAssembly module.
type Wasm struct {
	Runtime, Fetcher        uint8
	ArtifactURI, Entrypoint string
}

// Native is an archive of executables.
type Native struct {
	Fetcher                 uint8
	ArtifactURI, Entrypoint string
}

// Testing is a package to build from a checkout.
type Testing struct{ CargoPackage, CargoBin, BasePath string }

// Binary is a published executable.
type Binary struct {
	Arch   Arch
	OS     OS
	Name   string
	SHA256 Word // zero if not published
}

// The sizes of the heads in words, and the minimum sizes of elements in bytes.
const (
	sourceWords = 6
	binaryWords = 4
	leastBinary = (1 + binaryWords + 1) * wordSize
	// An offset and a head; the heads and lengths of container, wasm, native and testing; the length
	// of binaries.
	leastSource = (1 + sourceWords + (3 + 3) + (4 + 2) + (3 + 2) + (3 + 3) + 1) * wordSize
)

// DecodeSources decodes the data of the event BlueprintSourcesRecorded. The sources retain the
// data, so the caller must not change it. The error is a *DecodeError.
func DecodeSources(data []byte) ([]Source, error) {
	d := NewDecoder(data)
	var sources []Source
	if d.Head(0, 1, "sources") {
		sources = d.sources(0, 0)
	}
	if d.err != nil {
		return nil, d.Err()
	}
	return sources, nil
}

func (d *Decoder) sources(base, at int) []Source {
	elements, n := d.Array(base, at, maxSources, leastSource, "sources")
	if n == 0 || !d.Head(elements, n, "sources") {
		return nil
	}
	sources := make([]Source, n)
	d.enter("sources")
	defer d.leave()
	for i := 0; i < n && d.err == nil; i++ {
		d.at(i)
		sources[i] = d.source(d.offset(elements, elements+i*wordSize, "offset"))
	}
	return sources
}

func (d *Decoder) source(base int) (s Source) {
	if !d.Head(base, sourceWords, "head") {
		return s
	}
	s.Kind = SourceKind(d.Uint(base, 8, "kind"))
	if at := d.offset(base, base+wordSize, "container"); d.Head(at, 3, "container") {
		s.Container = Container{
			Registry: d.str(at, at, "container.registry"),
			Image:    d.str(at, at+wordSize, "container.image"),
			Tag:      d.str(at, at+2*wordSize, "container.tag"),
		}
	}
	if at := d.offset(base, base+2*wordSize, "wasm"); d.Head(at, 4, "wasm") {
		s.Wasm = Wasm{
			Runtime:     uint8(d.Uint(at, 8, "wasm.runtime")),
			Fetcher:     uint8(d.Uint(at+wordSize, 8, "wasm.fetcher")),
			ArtifactURI: d.str(at, at+2*wordSize, "wasm.artifactUri"),
			Entrypoint:  d.str(at, at+3*wordSize, "wasm.entrypoint"),
		}
	}
	if at := d.offset(base, base+3*wordSize, "native"); d.Head(at, 3, "native") {
		s.Native = Native{
			Fetcher:     uint8(d.Uint(at, 8, "native.fetcher")),
			ArtifactURI: d.str(at, at+wordSize, "native.artifactUri"),
			Entrypoint:  d.str(at, at+2*wordSize, "native.entrypoint"),
		}
	}
	if at := d.offset(base, base+4*wordSize, "testing"); d.Head(at, 3, "testing") {
		s.Testing = Testing{
			CargoPackage: d.str(at, at, "testing.cargoPackage"),
			CargoBin:     d.str(at, at+wordSize, "testing.cargoBin"),
			BasePath:     d.str(at, at+2*wordSize, "testing.basePath"),
		}
	}
	s.Binaries = d.binaries(base, base+5*wordSize)
	return s
}

func (d *Decoder) binaries(base, at int) []Binary {
	elements, n := d.Array(base, at, maxBinaries, leastBinary, "binaries")
	if n == 0 || !d.Head(elements, n, "binaries") {
		return nil
	}
	binaries := make([]Binary, n)
	d.enter("binaries")
	defer d.leave()
	for i := 0; i < n && d.err == nil; i++ {
		d.at(i)
		b := d.offset(elements, elements+i*wordSize, "offset")
		if !d.Head(b, binaryWords, "head") {
			break
		}
		binaries[i] = Binary{
			Arch:   Arch(d.Uint(b, 8, "arch")),
			OS:     OS(d.Uint(b+wordSize, 8, "os")),
			Name:   d.str(b, b+2*wordSize, "name"),
			SHA256: d.Word(b + 3*wordSize),
		}
	}
	return binaries
}
