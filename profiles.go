package serverless

import (
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/atomicfile"
	"github.com/tangle-network/blueprint-serverless/internal/profile"
)

// Profiles is what [ProfileJobs] measured of a blueprint's jobs. It is a plain value, and its JSON is that of the profiles file with the
// execution profile beside it.
type Profiles struct {
	BlueprintName string                `json:"blueprint_name"`
	ProfiledAt    time.Time             `json:"profiled_at"`
	Jobs          map[uint32]JobProfile `json:"jobs"`
	// Execution is what the author declares, and travels only in the on-chain string. Nil declares nothing.
	Execution *ExecutionProfile `json:"execution_profile,omitempty"`
}

// WriteFile writes the profiles file, which [FetchMetadata] reads with WithBinary when it is at [ProfilesPath]. It replaces a file that is
// there, whole or not at all, and makes no directory. Equal profiles give equal bytes.
func (p *Profiles) WriteFile(path string) error {
	data, err := profile.EncodeFile(p.set())
	if err != nil {
		return faas.Errorf(faas.ErrInvalidArgument, "write profiles", "", "%w", err)
	}
	if err := atomicfile.Write(path, data, 0o644); err != nil {
		return faas.Errorf(faas.ErrInternal, "write profiles", "", "%w", err)
	}
	return nil
}

// OnChain returns the string to register on chain as the definition's profilingData: a JSON object with the compressed profiles, and the execution
// profile where there is one. Equal profiles give equal strings.
func (p *Profiles) OnChain() (string, error) {
	var exec *profile.Execution
	if p.Execution != nil {
		exec = new(p.Execution.encodable())
	}
	text, err := profile.EncodeProfilingData(p.set(), exec)
	if err != nil {
		return "", faas.Errorf(faas.ErrInvalidArgument, "encode profiles", "", "%w", err)
	}
	return text, nil
}

// Description returns the profiles behind the marker that old contracts carry in a blueprint's description. New ones take [Profiles.OnChain].
func (p *Profiles) Description() (string, error) {
	text, err := profile.EncodeDescription(p.set())
	if err != nil {
		return "", faas.Errorf(faas.ErrInvalidArgument, "encode profiles", "", "%w", err)
	}
	return text, nil
}

func (e ExecutionProfile) encodable() profile.Execution {
	return profile.Execution{Confidentiality: e.Confidentiality, GPU: profile.GPU(e.GPU)}
}

func (p *Profiles) set() profile.Set {
	set := profile.Set{
		BlueprintName: p.BlueprintName,
		ProfiledAt:    p.ProfiledAt.UTC().Format(time.RFC3339Nano),
		Jobs:          make(map[uint32]profile.Job, len(p.Jobs)),
	}
	for id, job := range p.Jobs {
		set.Jobs[id] = profile.Job(job)
	}
	return set
}
