package serverless

// OnChain says where and when metadata was read, and what the contract keeps of the blueprint beside its definition.
type OnChain struct {
	ChainID  uint64 `json:"chain_id"`
	Contract string `json:"contract"` // its address: 0x and 40 lower-case digits
	Block    uint64 `json:"block"`    // whose state was read
	// Owner, Manager, CreatedAt and Active are empty or nil where the contract did not say.
	Owner     string `json:"owner,omitempty"`
	Manager   string `json:"manager,omitempty"`
	CreatedAt uint64 `json:"created_at,omitempty"` // in Unix seconds
	Active    *bool  `json:"active,omitempty"`
	// NamesFrom and SourcesFrom say how the names of the jobs and the sources became known: from the "call" itself, or from an "event" or the
	// "cache" of one, verified against the hash that the contract keeps. Empty: they are not known.
	NamesFrom   string `json:"names_from,omitempty"`
	SourcesFrom string `json:"sources_from,omitempty"`
}

// Resources are what a blueprint declares to need. Zero is no demand.
type Resources struct {
	CPUCores  uint64 `json:"cpu_cores,omitempty"`
	MemoryMB  uint64 `json:"memory_mb,omitempty"`  // MiB
	StorageMB uint64 `json:"storage_mb,omitempty"` // MiB
	EgressMB  uint64 `json:"egress_mb,omitempty"`  // MiB
	IngressMB uint64 `json:"ingress_mb,omitempty"` // MiB
	GPUs      uint64 `json:"gpus,omitempty"`
}

// BlueprintSource is one way that is published to get and run a blueprint.
type BlueprintSource struct {
	Kind        string            `json:"kind"`                   // container, wasm or native
	Image       string            `json:"image,omitempty"`        // of a container
	ArtifactURI string            `json:"artifact_uri,omitempty"` // of the others
	Entrypoint  string            `json:"entrypoint,omitempty"`   // of the others
	Binaries    []PublishedBinary `json:"binaries,omitempty"`
}

// PublishedBinary is one executable that a blueprint's owner has published.
type PublishedBinary struct {
	// Arch and OS are Go's names where Go has one; OS may be "bsd", or "unknown", which stands for any.
	Arch   string `json:"arch"`
	OS     string `json:"os"`
	Name   string `json:"name,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // 64 lower-case hexadecimal digits; empty: not published
}
