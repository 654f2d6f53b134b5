package profiles

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// EncodeFile returns the content of a profiles file: indented JSON with the jobs by ascending id
// and a final newline. Equal sets give equal bytes.
func EncodeFile(set Set) ([]byte, error) {
	compact, err := encodeJSON(set)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	if b.Len() > MaxJSON {
		return nil, fmt.Errorf("the profiles take %d bytes, more than the limit of %d that readers keep", b.Len(), MaxJSON)
	}
	return b.Bytes(), nil
}

// EncodeProfilingData returns the profilingData string. It omits the execution profile if exec is
// nil; otherwise exec must pass its Check.
func EncodeProfilingData(set Set, exec *Execution) (string, error) {
	if exec != nil {
		if err := exec.Check(); err != nil {
			return "", err
		}
	}
	text, err := pack(set)
	if err != nil {
		return "", err
	}
	type gpu struct {
		Policy    string `json:"policy"`
		MinCount  uint32 `json:"min_count"`
		MinVRAMGB uint32 `json:"min_vram_gb"`
	}
	type execution struct {
		Confidentiality string `json:"confidentiality"`
		GPU             *gpu   `json:"gpu,omitempty"`
	}
	object := struct {
		Schema    string     `json:"schema"`
		Execution *execution `json:"execution_profile,omitempty"`
		Profiles  string     `json:"job_profiles_b64_gzip"`
	}{Schema: Schema, Profiles: text}
	if exec != nil {
		object.Execution = &execution{Confidentiality: exec.Confidentiality}
		if exec.Confidentiality == "" {
			object.Execution.Confidentiality = ConfidentialityAny
		}
		if exec.GPU.Policy != "" && exec.GPU.Policy != GPUNone {
			object.Execution.GPU = &gpu{exec.GPU.Policy, max(exec.GPU.MinCount, 1), exec.GPU.MinVRAMGB}
		}
	}
	out, err := json.Marshal(object)
	return string(out), err
}

// EncodeDescription returns the legacy marker followed by the profiles.
func EncodeDescription(set Set) (string, error) {
	text, err := pack(set)
	return Marker + text, err
}

func pack(set Set) (string, error) {
	set.BinarySHA256 = "" // the definition on chain has the hashes of its binaries, and every byte there is paid for
	data, err := encodeJSON(set)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := z.Write(data); err != nil {
		return "", err
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// encodeJSON writes the object itself because encoding/json would sort the ids as text.
func encodeJSON(set Set) ([]byte, error) {
	name, err := json.Marshal(set.BlueprintName)
	if err != nil {
		return nil, err
	}
	at, err := json.Marshal(set.ProfiledAt)
	if err != nil {
		return nil, err
	}
	b := slices.Concat([]byte(`{"blueprint_name":`), name, []byte(`,"profiled_at":`), at)
	if set.BinarySHA256 != "" {
		if !isSHA256(set.BinarySHA256) {
			return nil, errors.New("the SHA-256 of the binary is not 64 hexadecimal digits")
		}
		b = slices.Concat(b, []byte(`,"binary_sha256":"`), []byte(set.BinarySHA256), []byte{'"'})
	}
	b = append(b, `,"jobs":{`...)
	for i, id := range slices.Sorted(maps.Keys(set.Jobs)) {
		if id >= MaxJobs {
			return nil, fmt.Errorf("job %d: a blueprint has at most %d jobs, with the ids 0 to %d", id, MaxJobs, MaxJobs-1)
		}
		if i > 0 {
			b = append(b, ',')
		}
		job := set.Jobs[id]
		b = append(strconv.AppendUint(append(b, '"'), uint64(id), 10), `":{"avg_duration_ms":`...)
		b = append(strconv.AppendUint(b, job.AvgDurationMS, 10), `,"p95_duration_ms":`...)
		b = append(strconv.AppendUint(b, job.P95DurationMS, 10), `,"p99_duration_ms":`...)
		b = append(strconv.AppendUint(b, job.P99DurationMS, 10), `,"peak_memory_mb":`...)
		b = append(strconv.AppendUint(b, uint64(job.PeakMemoryMB), 10), `,"stateful":`...)
		b = append(strconv.AppendBool(b, job.Stateful), `,"persistent_connections":`...)
		b = append(strconv.AppendBool(b, job.PersistentConnections), `,"sample_size":`...)
		b = append(strconv.AppendUint(b, uint64(job.SampleSize), 10), '}')
	}
	b = append(b, '}', '}')
	if len(b) > MaxJSON {
		return nil, fmt.Errorf("the profiles take %d bytes, more than the limit of %d that readers keep", len(b), MaxJSON)
	}
	return b, nil
}
