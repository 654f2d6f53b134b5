package profiles

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/internal/jsonwalk"
)

// DecodeFile decodes a profiles file, which is plain JSON.
//
// For every decoder here, jobCount is the number of jobs of the blueprint, at most MaxJobs.
// Profiles of jobs with higher ids are dropped. warnings lists what was dropped or ignored, one
// sentence each and bounded in number. If err is not nil, there are no profiles, but there may be
// warnings.
func DecodeFile(data []byte, jobCount int) (set Set, warnings []string, err error) {
	var notes notes
	set, err = decodeJSON(data, jobCount, false, &notes)
	return set, notes.list(), err
}

// DecodeProfilingData decodes the profilingData of a definition. The empty string is valid and
// holds nothing.
//
// The execution profile is returned as far as it was readable even if err is not nil, because a
// blueprint with broken profiles may still demand a TEE. A set without jobs and a nil error mean
// that the string holds no profiles.
func DecodeProfilingData(s string, jobCount int) (set Set, exec Execution, warnings []string, err error) {
	var notes notes
	blob, exec, err := openProfilingData(s, &notes)
	if err != nil || blob == nil {
		return Set{}, exec, notes.list(), err
	}
	text, err := readString(blob)
	if err != nil {
		return Set{}, exec, notes.list(), fmt.Errorf("profilingData: %s %w", blobName, err)
	}
	set, err = unpack(text, jobCount, false, &notes)
	if err != nil {
		return Set{}, exec, notes.list(), fmt.Errorf("profilingData: %s: %w", blobName, err)
	}
	return set, exec, notes.list(), nil
}

// DecodeExecution decodes only the execution profile of profilingData, for callers with profiles
// from elsewhere.
func DecodeExecution(s string) (exec Execution, warnings []string, err error) {
	var notes notes
	_, exec, err = openProfilingData(s, &notes)
	return exec, notes.list(), err
}

const blobName, execName = "job_profiles_b64_gzip", "execution_profile"

// openProfilingData returns the raw member that holds the profiles, or nil, and the execution
// profile.
func openProfilingData(s string, notes *notes) (blob []byte, exec Execution, err error) {
	s = strings.TrimSpace(s)
	const limit = maxPacked + 64<<10 // what else than profiles may be in it is short
	switch {
	case s == "":
		return nil, Execution{}, nil
	case s[0] != '{':
		return nil, Execution{}, fmt.Errorf("profilingData is not a JSON object but begins with %q",
			clip(s[:min(len(s), 16)]))
	case len(s) > limit:
		return nil, Execution{}, fmt.Errorf("profilingData is %d bytes long, more than the limit of %d", len(s), limit)
	}
	data := []byte(s)
	if err := checkJSON(data, limit); err != nil {
		return nil, Execution{}, fmt.Errorf("profilingData: %w", err)
	}
	var execution []byte
	blobs, executions := 0, 0
	_ = jsonwalk.Members(data, func(name string, value []byte) error {
		switch name {
		case blobName:
			blob = value
			blobs++
		case execName:
			execution = value
			executions++
		}
		return nil
	})
	switch {
	case executions == 1:
		exec = decodeExecution(execution, notes)
	case executions > 1: // which of them is meant cannot be known
		exec = strictest()
		notes.add("profilingData has the member %q twice: taken to require a TEE and a GPU", execName)
	}
	if blobs > 1 {
		return nil, exec, fmt.Errorf("profilingData has the member %q twice", blobName)
	}
	return blob, exec, nil
}

// DecodeDescription decodes the profiles that follow the legacy marker in a description. found
// reports whether the marker exists; without it, all other results are empty. Here a single job
// with a missing or wrong member makes the whole an error, as it does for the existing reader.
func DecodeDescription(description string, jobCount int) (set Set, found bool, warnings []string, err error) {
	text, found := strings.CutPrefix(description, Marker)
	if !found {
		return Set{}, false, nil, nil
	}
	var notes notes
	set, err = unpack(text, jobCount, true, &notes)
	if err != nil {
		err = fmt.Errorf("description: %w", err)
	}
	return set, true, notes.list(), err
}

// unpack decodes base64 of gzip of the JSON.
func unpack(text string, jobCount int, strict bool, notes *notes) (Set, error) {
	if len(text) > maxPacked {
		return Set{}, fmt.Errorf("the base64 is %d bytes long, more than the limit of %d", len(text), maxPacked)
	}
	if i := strings.IndexAny(text, "\r\n"); i >= 0 { // which encoding/base64 skips
		return Set{}, fmt.Errorf("not standard base64 with padding: line break at byte %d", i)
	}
	packed, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return Set{}, fmt.Errorf("not standard base64 with padding: %w", err)
	}
	data, err := gunzip(packed, notes)
	if err != nil {
		return Set{}, err
	}
	return decodeJSON(data, jobCount, strict, notes)
}

// gunzip unpacks the first gzip member of packed. It reads all of it, to verify the checksum.
func gunzip(packed []byte, notes *notes) ([]byte, error) {
	src := bytes.NewReader(packed)
	z, err := gzip.NewReader(src)
	if err != nil {
		return nil, fmt.Errorf("not gzip: %w", unexpected(err))
	}
	z.Multistream(false)
	// The first pass finds the length and verifies the checksum, the second keeps the content. A
	// growing buffer would let a bomb use several times the limit.
	size, err := io.Copy(io.Discard, io.LimitReader(z, MaxJSON+1))
	if err != nil {
		return nil, fmt.Errorf("broken gzip: %w", unexpected(err))
	}
	if size > MaxJSON {
		return nil, fmt.Errorf("the profiles unpack to more than %d bytes", MaxJSON)
	}
	if src.Len() > 0 {
		notes.add("%d bytes behind the compressed profiles were ignored", src.Len())
	}
	src.Reset(packed)
	data := make([]byte, size)
	if err = z.Reset(src); err == nil {
		_, err = io.ReadFull(z, data)
	}
	if err != nil {
		return nil, fmt.Errorf("broken gzip: %w", unexpected(err))
	}
	return data, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// decodeJSON decodes the JSON of profiles. If strict, any flaw in a job is an error; otherwise the
// job counts as unprofiled.
func decodeJSON(data []byte, jobCount int, strict bool, notes *notes) (Set, error) {
	if err := checkJSON(data, MaxJSON); err != nil {
		return Set{}, err
	}
	jobCount = min(max(jobCount, 0), MaxJobs)
	set := Set{Jobs: map[uint32]Job{}}
	var jobs []byte
	err := jsonwalk.Members(data, func(name string, value []byte) error {
		switch name {
		case "blueprint_name":
			set.BlueprintName, _ = readString(value)
		case "profiled_at":
			set.ProfiledAt, _ = readString(value)
		case "binary_sha256":
			text, err := readString(value)
			if set.BinarySHA256 = strings.ToLower(text); err != nil || !isSHA256(set.BinarySHA256) {
				set.BinarySHA256 = ""
				notes.add("binary_sha256 was ignored: it is not a SHA-256 of 64 hexadecimal digits")
			}
		case "jobs":
			if jobs != nil {
				return errors.New(`the member "jobs" is there twice`)
			}
			jobs = value
		}
		return nil
	})
	switch {
	case err != nil:
		return Set{}, err
	case jobs == nil:
		return Set{}, errors.New(`the member "jobs" is missing`)
	case jsonwalk.Kind(jobs) != "an object":
		return Set{}, fmt.Errorf(`the member "jobs" is %s, not an object`, jsonwalk.Kind(jobs))
	}
	var seen [MaxJobs]bool
	var dropped dropped
	err = jsonwalk.Members(jobs, func(name string, value []byte) error {
		id, err := strconv.ParseUint(name, 10, 32)
		if err != nil || strconv.FormatUint(id, 10) != name {
			if strict {
				return fmt.Errorf("job id %q is not a decimal number of 32 bits", clip(name))
			}
			notes.add("the profile of job %q was ignored: its id is not a decimal number of 32 bits", clip(name))
			return nil
		}
		inRange := id < uint64(jobCount)
		if inRange && seen[id] {
			if strict {
				return fmt.Errorf("job %d is there twice", id)
			}
			delete(set.Jobs, uint32(id)) // which of the two is meant cannot be known
			notes.add("job %d counts as unprofiled: it is there twice", id)
			return nil
		}
		if !inRange {
			dropped.add(id)
			if !strict {
				return nil
			}
		}
		job, err := decodeJob(value, strict)
		switch {
		case err != nil && strict:
			return fmt.Errorf("job %d: %w", id, err)
		case err != nil:
			notes.add("job %d counts as unprofiled: %v", id, err)
		case inRange:
			set.Jobs[uint32(id)] = job
		}
		if inRange {
			seen[id] = true
		}
		return nil
	})
	if err != nil {
		return Set{}, err
	}
	if dropped.count > 0 {
		notes.add("%s, because the blueprint has %d jobs", dropped.text(), jobCount)
	}
	return set, nil
}

func isSHA256(text string) bool {
	sum, err := hex.DecodeString(text)
	return err == nil && len(sum) == sha256.Size
}

// decodeJob decodes one profile. If strict, all seven members are required; otherwise
// p99_duration_ms and sample_size are optional.
func decodeJob(raw []byte, strict bool) (Job, error) {
	if jsonwalk.Kind(raw) != "an object" {
		return Job{}, fmt.Errorf("its profile is %s, not an object", jsonwalk.Kind(raw))
	}
	var job Job
	var seen uint // bits by the index in jobMembers
	err := jsonwalk.Members(raw, func(name string, value []byte) (err error) {
		i := slices.Index(jobMembers[:], name)
		if i < 0 {
			return nil // a member that a later version may have added
		}
		if seen&(1<<i) != 0 {
			return fmt.Errorf("%s is there twice", name)
		}
		seen |= 1 << i
		if !strict && optionalMembers&(1<<i) != 0 && string(value) == "null" {
			return nil
		}
		switch i {
		case 0:
			job.AvgDurationMS, err = readUint(value, 64)
		case 1:
			job.P95DurationMS, err = readUint(value, 64)
		case 2:
			job.P99DurationMS, err = readUint(value, 64)
		case 3:
			job.PeakMemoryMB, err = readUint32(value)
		case 4:
			job.Stateful, err = readBool(value)
		case 5:
			job.PersistentConnections, err = readBool(value)
		case 6:
			job.SampleSize, err = readUint32(value)
		}
		if err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
		return nil
	})
	if err != nil {
		return Job{}, err
	}
	if !strict {
		seen |= optionalMembers
	}
	for i, name := range jobMembers {
		if seen&(1<<i) == 0 {
			return Job{}, fmt.Errorf("%s is missing", name)
		}
	}
	return job, nil
}

// jobMembers are the members of a profile, in the order that decodeJob expects.
var jobMembers = [...]string{
	"avg_duration_ms", "p95_duration_ms", "p99_duration_ms", "peak_memory_mb", "stateful", "persistent_connections",
	"sample_size",
}

const optionalMembers = 1<<2 | 1<<6
