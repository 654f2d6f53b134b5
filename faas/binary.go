package faas

// Protocols says how a binary can be spoken to.
type Protocols string

// What a binary speaks.
const (
	SpeaksAll   Protocols = "all"   // it links faas/job: every protocol of this module
	SpeaksStdio Protocols = "stdio" // one request on stdin, one response on stdout
)

// Arch is a processor architecture, by Go's name for it.
type Arch string

// Binary is what can be told of an executable without running it. See [InspectBinary].
type Binary struct {
	Path      string    `json:"path"`
	Size      int64     `json:"size"`   // in bytes
	SHA256    string    `json:"sha256"` // hex
	Format    string    `json:"format"` // "elf", "script", "mach-o", "pe", or "unknown"
	OS        string    `json:"os,omitempty"`
	Arch      Arch      `json:"arch,omitempty"`
	Static    bool      `json:"static"` // needs no dynamic loader and no shared library
	Libraries []string  `json:"libraries,omitempty"`
	Protocols Protocols `json:"protocols"`
}

// InspectBinary reads an executable and says what it is.
func InspectBinary(path string) (*Binary, error) { panic("being written") }
