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

// Set holds the measured profiles of a blueprint's jobs. It is a plain value. Its JSON is that of
// the profiles file, plus the execution profile.
type Set struct {
	BlueprintName string    `json:"blueprint_name"`
	ProfiledAt    time.Time `json:"profiled_at"`
	// BinarySHA256 is the hash of the measured file, in hex. It is empty if the writer of the profiles
	// did not record it.
	BinarySHA256 string                           `json:"binary_sha256,omitempty"`
	Jobs         map[uint32]serverless.JobProfile `json:"jobs"`
	// Execution is what the author declares. Only the on-chain string carries it. Nil declares
	// nothing.
	Execution *serverless.ExecutionProfile `json:"execution_profile,omitempty"`
}

const readProfilesOp = "read profiles"

// Read reads a profiles file. Unlike [serverless.FetchMetadata] it ignores nothing, so that writing
// what it read loses nothing: one invalid profile makes the whole file an error.
//
// Errors are *faas.Error: ErrNotFound for a file that does not exist, ErrPermissionDenied for one
// that may not be read, and ErrInvalidArgument for one with invalid content.
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
	// Other tools may write another format, and nothing depends on the time.
	p.ProfiledAt, _ = time.Parse(time.RFC3339, set.ProfiledAt)
	for id, job := range set.Jobs {
		p.Jobs[id] = serverless.JobProfile(job)
	}
	return p, nil
}

// Merge adds to p what older has and p lacks: the profiles of jobs that were not measured again,
// and the declarations ([WithStateful], [WithPersistentConnections]) of those that were. It returns
// the ids of the jobs that it added, in ascending order.
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

// WriteFile writes the profiles file, which [serverless.FetchMetadata] with WithBinary finds beside
// the binary or at [serverless.ProfilesPath]. It replaces an existing file as a whole or not at
// all, and creates no directory. To keep what an older file has, use [Set.Merge]. Equal profiles
// give equal bytes.
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

// OnChain returns the string to register on chain as the profilingData of the definition: a JSON
// object with the compressed profiles, and the execution profile if it is set. Equal profiles give
// equal strings.
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

// Description returns the profiles behind the marker that old contracts keep in a blueprint's
// description. For new contracts use [Set.OnChain].
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
