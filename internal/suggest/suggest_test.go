package suggest_test

import (
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/suggest"
)

func TestNameFindsMisspellingsAndLeavesOtherNames(t *testing.T) {
	known := []string{"enable", "provider", "default_memory_mb", "type"}
	for name, want := range map[string]string{
		"enable": "", "Enable": "enable", "enabled": "enable", "enabel": "enable", "nable": "enable",
		"default-memory-mb": "default_memory_mb",
		"defaultMemoryMB":   "default_memory_mb", "defalt_memory_m": "default_memory_mb", "Type": "type", "typ": "type",
		"tyep": "type",
		"tier": "", "note": "", "memory_mb": "", "disable": "", "": "", "prövider": "provider", "_": "",
		"enable_v2": "", "x-enable": "", "enable_": "enable", "default_memry-mb": "default_memory_mb",
	} {
		if got, _ := suggest.Name(name, known); got != want {
			t.Errorf("Name(%q) = %q, want %q", name, got, want)
		}
	}
}
