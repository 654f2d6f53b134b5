package faas_test

import (
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func TestIsWarmRequest(t *testing.T) {
	for body, want := range map[string]bool{
		faas.WarmRequest:                       true,
		" {\n\t\"warm\" : true }\n":            true,
		`{"warm":true,"source":"scheduler"}`:   true,
		`{"warm":false}`:                       false,
		`{"warm":1}`:                           false,
		`{}`:                                   false,
		``:                                     false,
		`{"warm":true}x`:                       false,
		`{"warm":true,"job_id":0,"args":[1]}`:  false,
		`{"job_id":0,"args":[],"warm":true}`:   false,
		`{"job_id":0,"args":[119,97,114,109]}`: false,
	} {
		if got := faas.IsWarmRequest([]byte(body)); got != want {
			t.Errorf("%s: %v, want %v", body, got, want)
		}
	}
}
