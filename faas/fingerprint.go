package faas

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

func fingerprint(functions []Function) string {
	type withEnv struct {
		Function
		Env map[string]string `json:"env"` // encoding/json sorts the keys
	}
	all := make([]withEnv, len(functions))
	for i, f := range functions {
		all[i] = withEnv{Function: f, Env: f.Env.Reveal()}
		if f.Env == nil {
			all[i].Env = map[string]string{} // no environment is an empty one
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic("faas: a function does not marshal: " + err.Error()) // numbers and strings always do
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
