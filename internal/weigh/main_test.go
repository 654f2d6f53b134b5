package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/internal/doctest"
)

func TestEveryProgramCompiles(t *testing.T) {
	s := &scales{root: doctest.Root(t)}
	for _, p := range programs {
		if p.tags != "" {
			continue // as without them
		}
		t.Run(p.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "main.go")
			if err := os.WriteFile(file, []byte(p.source()), 0o600); err != nil {
				t.Fatal(err)
			}
			vet := s.command(t.Context(), "vet", file)
			var stderr strings.Builder
			vet.Stderr = &stderr
			if err := vet.Run(); err != nil {
				t.Errorf("%v: %s\n%s", err, &stderr, p.source())
			}
		})
	}
}
