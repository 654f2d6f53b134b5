package profile

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
	"github.com/tangle-network/blueprint-serverless/internal/profiles"
)

// Set is what [Measure] measured of a blueprint's jobs. It is a plain value, and its JSON is that of the profiles file with the
// execution profile beside it.
type Set struct {
	BlueprintName string    `json:"blueprint_name"`
	ProfiledAt    time.Time `json:"profiled_at"`
	// BinarySHA256 is that of the measured file, in hex. It is empty if whoever wrote the profiles does not tell it.
	BinarySHA256 string                           `json:"binary_sha256,omitempty"`
	Jobs         map[uint32]serverless.JobProfile `json:"jobs"`
	// Execution is what the author declares, and travels only in the on-chain string. Nil declares nothing.
	Execution *serverless.ExecutionProfile `json:"execution_profile,omitempty"`
}

const readProfilesOp = "read profiles"

// Read reads a profiles file. Unlike [serverless.FetchMetadata] it ignores nothing, so that what is read may be written
// again without a loss: a job whose profile cannot be used makes the whole file an error.
//
// Errors are *faas.Error: ErrNotFound if there is no file, ErrPermissionDenied for one that may not be read, and
// ErrInvalidArgument for one that is broken.
func Read(path string) (*Set, error) {
	data, err := profiles.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, faas.Errorf(faas.ErrNotFound, readProfilesOp, "", "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, faas.Errorf(faas.ErrPermissionDenied, readProfilesOp, "", "%w", err)
	case err != nil:
		return nil, faas.Errorf(faas.ErrInvalidArgument, readProfilesOp, "", "%w", err)
	}
	set, warnings, err := profiles.DecodeFile(data, profiles.MaxJobs)
	if err == nil && len(warnings) > 0 {
		err = errors.New(strings.Join(warnings, "; "))
	}
	if err != nil {
		return nil, faas.Errorf(faas.ErrInvalidArgument, readProfilesOp, "", "%s: %w", path, err)
	}
	p := &Set{BlueprintName: set.BlueprintName, BinarySHA256: set.BinarySHA256, Jobs: map[uint32]serverless.JobProfile{}}
	// which other tools may write otherwise, and nothing depends on
	p.ProfiledAt, _ = time.Parse(time.RFC3339, set.ProfiledAt)
	for id, job := range set.Jobs {
		p.Jobs[id] = serverless.JobProfile(job)
	}
	return p, nil
}

// Merge adds what older profiles have and these do not: jobs that were not measured again, and the declarations
// ([WithStateful], [WithPersistentConnections]) of those that were. It returns the ids of the jobs that were added,
// in ascending order.
func (p *Set) Merge(older *Set) (added []uint32) {
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

// WriteFile writes the profiles file, which [serverless.FetchMetadata] finds with WithBinary beside the binary or at
// [serverless.ProfilesPath]. It replaces a file that is there, whole or not at all, and makes no directory; to keep what an older
// file has, see [Set.Merge]. Equal profiles give equal bytes.
func (p *Set) WriteFile(path string) error {
	data, err := profiles.EncodeFile(p.set())
	if err != nil {
		return faas.Errorf(faas.ErrInvalidArgument, "write profiles", "", "%w", err)
	}
	if err := files.Write(path, data, 0o644); err != nil {
		return faas.Errorf(faas.ErrInternal, "write profiles", "", "%w", err)
	}
	return nil
}

// OnChain returns the string to register on chain as the definition's profilingData: a JSON object with the compressed profiles, and the execution
// profile where there is one. Equal profiles give equal strings.
func (p *Set) OnChain() (string, error) {
	var exec *profiles.Execution
	if p.Execution != nil {
		exec = new(encodable(*p.Execution))
	}
	text, err := profiles.EncodeProfilingData(p.set(), exec)
	if err != nil {
		return "", faas.Errorf(faas.ErrInvalidArgument, "encode profiles", "", "%w", err)
	}
	return text, nil
}

// Description returns the profiles behind the marker that old contracts carry in a blueprint's description. New ones take [Set.OnChain].
func (p *Set) Description() (string, error) {
	text, err := profiles.EncodeDescription(p.set())
	if err != nil {
		return "", faas.Errorf(faas.ErrInvalidArgument, "encode profiles", "", "%w", err)
	}
	return text, nil
}

func encodable(e serverless.ExecutionProfile) profiles.Execution {
	return profiles.Execution{Confidentiality: e.Confidentiality, GPU: profiles.GPU(e.GPU)}
}

func (p *Set) set() profiles.Set {
	set := profiles.Set{
		BlueprintName: p.BlueprintName,
		ProfiledAt:    p.ProfiledAt.UTC().Format(time.RFC3339Nano),
		BinarySHA256:  p.BinarySHA256,
		Jobs:          make(map[uint32]profiles.Job, len(p.Jobs)),
	}
	for id, job := range p.Jobs {
		set.Jobs[id] = profiles.Job(job)
	}
	return set
}
