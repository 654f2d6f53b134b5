package runner_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/runner"
)

const digits = "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a" // known to everybody

func TestOpenKeystore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := os.WriteFile(path, []byte(digits), 0o600); err != nil {
		t.Fatal(err)
	}
	sealed := filepath.Join("internal", "keys", "testdata", "web3-pbkdf2.json")
	for _, tt := range []struct {
		uri, password string
		want          faas.Code // empty: opened
	}{
		{uri: path},
		{uri: "file://" + path},
		{uri: filepath.Join("internal", "keys", "testdata", "keystore")},
		{uri: sealed, password: "testpassword"},
		{uri: sealed, password: "wrong", want: faas.ErrPermissionDenied},
		{uri: filepath.Join(dir, "absent"), want: faas.ErrNotFound},
		{uri: dir, want: faas.ErrNotFound},
		{uri: "", want: faas.ErrInvalidArgument},
		{uri: "signer_test.go", want: faas.ErrInvalidArgument},
		{uri: "aws-kms://key", want: faas.ErrUnsupported},
	} {
		s, _, err := runner.OpenKeystore(tt.uri, tt.password)
		if tt.want == "" && (err != nil || s.Address() == [20]byte{}) || tt.want != "" && !errors.Is(err, tt.want) {
			t.Errorf("OpenKeystore(%q) = %v, %v; want an error of %q", tt.uri, s, err, tt.want)
		}
		if (s == nil) != (err != nil) {
			t.Errorf("OpenKeystore(%q) = %v, %v: both or neither", tt.uri, s, err)
		}
	}
	s, _, err := runner.OpenKeystore(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := runner.OpenKeystoreFor(path, "", s.Address()); err != nil {
		t.Errorf("OpenKeystoreFor its account = %v", err)
	}
	if _, _, err := runner.OpenKeystoreFor(path, "", [20]byte{1}); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("OpenKeystoreFor another account = %v; want faas.ErrNotFound", err)
	}
	store := filepath.Join("internal", "keys", "testdata", "keystore")
	if _, warnings, err := runner.OpenKeystore(store, ""); err != nil ||
		!strings.Contains(strings.Join(warnings, "\n"), "none was chosen") {
		t.Errorf("OpenKeystore of two keys = %q, %v; want it told", warnings, err)
	}
}
