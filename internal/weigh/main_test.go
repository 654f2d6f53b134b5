package main

import (
	"strings"
	"testing"
)

func TestEveryProgramCompiles(t *testing.T) {
	for _, p := range programs {
		t.Run(strings.ReplaceAll(p.name+" "+p.tags, " ", "_"), func(t *testing.T) {
			vet, err := p.command(t.Context(), t.TempDir(), "vet")
			if err != nil {
				t.Fatal(err)
			}
			var stderr strings.Builder
			vet.Stderr = &stderr
			if err := vet.Run(); err != nil {
				t.Errorf("%v: %s\n%s", err, &stderr, p.source())
			}
		})
	}
}
