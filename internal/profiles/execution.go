package profiles

import (
	"fmt"
	"slices"

	"github.com/tangle-network/blueprint-serverless/internal/jsonwalk"
)

// Check returns an error that names the first field whose value readers do not know.
func (e Execution) Check() error {
	switch e.Confidentiality {
	case "", ConfidentialityAny, ConfidentialityTEE, ConfidentialityStandard, ConfidentialityTEEFirst:
	default:
		return fmt.Errorf("confidentiality %q is none of %s, %s, %s, %s", clip(e.Confidentiality),
			ConfidentialityAny, ConfidentialityTEE, ConfidentialityStandard, ConfidentialityTEEFirst)
	}
	switch e.GPU.Policy {
	case "", GPUNone, GPURequired, GPUPreferred:
		return nil
	}
	return fmt.Errorf("GPU policy %q is none of %s, %s, %s", clip(e.GPU.Policy), GPUNone, GPURequired, GPUPreferred)
}

// decodeExecution decodes an execution profile. An unreadable value becomes the strictest
// requirement, never none.
func decodeExecution(raw []byte, notes *notes) Execution {
	if jsonwalk.Kind(raw) != "an object" {
		notes.add("execution_profile is %s, not an object: taken to require a TEE and a GPU", jsonwalk.Kind(raw))
		return strictest()
	}
	var exec Execution
	seen := map[string]bool{}
	err := jsonwalk.Members(raw, func(name string, value []byte) error {
		if name != "confidentiality" && name != "gpu" {
			notes.add("execution_profile has the unknown member %q, which was ignored", clip(name))
			return nil
		}
		if seen[name] {
			return fmt.Errorf("%s is there twice", name)
		}
		seen[name] = true
		if string(value) == "null" {
			return nil
		}
		if name == "gpu" {
			exec.GPU = decodeGPU(value, notes)
			return nil
		}
		text, err := readString(value)
		if err != nil || text == "" {
			text = Unreadable
		}
		exec.Confidentiality = clip(text)
		if (Execution{Confidentiality: text}).Check() != nil {
			notes.add("confidentiality %q of execution_profile is unknown: taken to require a TEE", exec.Confidentiality)
		}
		return nil
	})
	if err != nil {
		notes.add("execution_profile: %v: taken to require a TEE and a GPU", err)
		return strictest()
	}
	return exec
}

func strictest() Execution {
	return Execution{Confidentiality: Unreadable, GPU: GPU{Policy: Unreadable, MinCount: 1}}
}

func decodeGPU(raw []byte, notes *notes) GPU {
	unreadable := GPU{Policy: Unreadable, MinCount: 1}
	if jsonwalk.Kind(raw) != "an object" {
		notes.add("gpu of execution_profile is %s, not an object: taken to require a GPU", jsonwalk.Kind(raw))
		return unreadable
	}
	var gpu GPU
	names := [...]string{"policy", "min_count", "min_vram_gb"}
	seen := 0
	err := jsonwalk.Members(raw, func(name string, value []byte) (err error) {
		i := slices.Index(names[:], name)
		if i < 0 {
			return nil
		}
		if seen&(1<<i) != 0 {
			return fmt.Errorf("%s is there twice", name)
		}
		seen |= 1 << i
		switch i {
		case 0:
			gpu.Policy, err = readString(value)
		case 1:
			gpu.MinCount, err = readUint32(value)
		case 2:
			gpu.MinVRAMGB, err = readUint32(value)
		}
		if err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
		return nil
	})
	if err != nil {
		notes.add("gpu of execution_profile: %v: taken to require a GPU", err)
		return unreadable
	}
	switch gpu.Policy {
	case "", GPUNone:
	case GPURequired, GPUPreferred:
		gpu.MinCount = max(gpu.MinCount, 1)
	default:
		gpu.Policy = clip(gpu.Policy)
		gpu.MinCount = max(gpu.MinCount, 1)
		notes.add("GPU policy %q of execution_profile is unknown: taken to require a GPU", gpu.Policy)
	}
	return gpu
}
