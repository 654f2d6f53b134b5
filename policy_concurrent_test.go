package serverless_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
)

// saveOption sets one option of the policy at path, in a turn of its own: what each turn reads, it must find complete.
func saveOption(path, name string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(content, []byte(`{"foreign": 1.0, "serverless": {`)) || !bytes.HasSuffix(content, []byte("}}\n")) {
		return fmt.Errorf("half a file: %q", content)
	}
	p, err := serverless.LoadPolicy(serverless.WithPolicyPath(path))
	if err != nil {
		return err
	}
	p.Serverless.ProviderConfig = map[string]string{"writer": name, "check": name}
	return p.Save()
}

const saveChildVariable = "TEST_SAVE_POLICY"

func TestConcurrentSavesOfManyProcessesLeaveOneWhole(t *testing.T) {
	const turns = 8
	if path := os.Getenv(saveChildVariable); path != "" {
		for i := range turns {
			if err := saveOption(path, fmt.Sprintf("child %d", i)); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	path := policyFile(t, "{\"foreign\": 1.0, \"serverless\": {\"enable\": true}}\n")
	var group sync.WaitGroup
	for range 2 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), saveChildVariable+"="+path)
		group.Go(func() {
			if out, err := child.CombinedOutput(); err != nil {
				t.Errorf("child: %v\n%s", err, out)
			}
		})
	}
	for writer := range 4 {
		group.Go(func() {
			for i := range turns {
				if err := saveOption(path, fmt.Sprintf("writer %d %d", writer, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	p := load(t, path)
	if options := p.Serverless.ProviderConfig; options["writer"] == "" || options["writer"] != options["check"] {
		t.Errorf("two saves are mixed: %v", options)
	}
	alone(t, path)
}
