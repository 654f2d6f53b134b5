package serverless

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/atomicfile"
	"github.com/tangle-network/blueprint-serverless/internal/profile"
)

// Profiles is what [ProfileJobs] measured of a blueprint's jobs. It is a plain value, and its JSON is that of the profiles file with the
// execution profile beside it.
type Profiles struct {
	BlueprintName string    `json:"blueprint_name"`
	ProfiledAt    time.Time `json:"profiled_at"`
	// BinarySHA256 is that of the measured file, in hex. It is empty if whoever wrote the profiles does not tell it.
	BinarySHA256 string                `json:"binary_sha256,omitempty"`
	Jobs         map[uint32]JobProfile `json:"jobs"`
	// Execution is what the author declares, and travels only in the on-chain string. Nil declares nothing.
	Execution *ExecutionProfile `json:"execution_profile,omitempty"`
}

const readProfilesOp = "read profiles"

// ReadProfiles reads a profiles file. Unlike [FetchMetadata] it ignores nothing, so that what is read may be written
// again without a loss: a job whose profile cannot be used makes the whole file an error.
//
// Errors are *faas.Error: ErrNotFound if there is no file, ErrPermissionDenied for one that may not be read, and
// ErrInvalidArgument for one that is broken.
func ReadProfiles(path string) (*Profiles, error) {
	data, err := readRegular(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, faas.Errorf(faas.ErrNotFound, readProfilesOp, "", "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, faas.Errorf(faas.ErrPermissionDenied, readProfilesOp, "", "%w", err)
	case err != nil:
		return nil, faas.Errorf(faas.ErrInvalidArgument, readProfilesOp, "", "%w", err)
	}
	set, warnings, err := profile.DecodeFile(data, profile.MaxJobs)
	if err == nil && len(warnings) > 0 {
		err = errors.New(strings.Join(warnings, "; "))
	}
	if err != nil {
		return nil, faas.Errorf(faas.ErrInvalidArgument, readProfilesOp, "", "%s: %w", path, err)
	}
	p := &Profiles{BlueprintName: set.BlueprintName, BinarySHA256: set.BinarySHA256, Jobs: map[uint32]JobProfile{}}
	// which other tools may write otherwise, and nothing depends on
	p.ProfiledAt, _ = time.Parse(time.RFC3339, set.ProfiledAt)
	for id, job := range set.Jobs {
		p.Jobs[id] = JobProfile(job)
	}
	return p, nil
}

// Merge adds what older profiles have and these do not: jobs that were not measured again, and the declarations
// ([WithStateful], [WithPersistentConnections]) of those that were. It returns the ids of the jobs that were added,
// in ascending order.
func (p *Profiles) Merge(older *Profiles) (added []uint32) {
	for id, was := range older.Jobs {
		job, measured := p.Jobs[id]
		if !measured {
			p.Jobs[id] = was
			added = append(added, id)
			continue
		}
		job.Stateful = job.Stateful || was.Stateful
		job.PersistentConnections = job.PersistentConnections || was.PersistentConnections
		p.Jobs[id] = job
	}
	slices.Sort(added)
	return added
}

// WriteFile writes the profiles file, which [FetchMetadata] finds with WithBinary beside the binary or at
// [ProfilesPath]. It replaces a file that is there, whole or not at all, and makes no directory; to keep what an older
// file has, see [Profiles.Merge]. Equal profiles give equal bytes.
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
		BinarySHA256:  p.BinarySHA256,
		Jobs:          make(map[uint32]profile.Job, len(p.Jobs)),
	}
	for id, job := range p.Jobs {
		set.Jobs[id] = profile.Job(job)
	}
	return set
}
