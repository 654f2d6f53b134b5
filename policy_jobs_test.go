package serverless

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func TestAJobsOwnSettingsTakeThePlaceOfThoseForAll(t *testing.T) {
	s := DefaultPolicy().Serverless
	s.DefaultMemoryMB, s.DefaultTimeoutSecs, s.KeepWarm, s.MaxConcurrency = 1024, 60, 2, 7
	s.Jobs = map[uint32]JobSettings{
		1: {MemoryMB: 256, TimeoutSecs: 20, KeepWarm: new(uint32(0)), MaxConcurrency: new(uint32(0))},
		2: {KeepWarm: new(uint32(5))},
		3: {MemoryMB: 256, TimeoutSecs: 20},
	}
	cfg := s.Config()
	cfg.Jobs = map[uint32]JobNeeds{1: {MemoryMB: 128, TimeoutSecs: 10}, 3: {MemoryMB: 300, TimeoutSecs: 30},
		4: {MemoryMB: 2048, TimeoutSecs: 10}}
	for id, want := range map[uint32]faas.Function{
		0: {JobID: 0, MemoryMB: 1024, TimeoutSecs: 60, MaxConcurrency: 7, KeepWarm: 2},
		1: {JobID: 1, MemoryMB: 256, TimeoutSecs: 20},
		2: {JobID: 2, MemoryMB: 1024, TimeoutSecs: 60, MaxConcurrency: 7, KeepWarm: 5},
		3: {JobID: 3, MemoryMB: 300, TimeoutSecs: 30, MaxConcurrency: 7, KeepWarm: 2},
		4: {JobID: 4, MemoryMB: 2048, TimeoutSecs: 60, MaxConcurrency: 7, KeepWarm: 2},
	} {
		if diff := cmp.Diff(want, cfg.function(id)); diff != "" {
			t.Errorf("job %d (-want +got):\n%s", id, diff)
		}
	}
	if diff := cmp.Diff(faas.Function{MemoryMB: 512, TimeoutSecs: 300}, ServerlessConfig{}.function(0)); diff != "" {
		t.Errorf("without any setting (-want +got):\n%s", diff)
	}
	azure := ServerlessConfig{Provider: faas.Config{Provider: faas.AzureFunctions},
		Overrides: map[uint32]JobSettings{1: {TimeoutSecs: 300}}}
	if wished, default_ := azure.function(1).TimeoutSecs, azure.function(0).TimeoutSecs; wished != 300 ||
		default_ != faas.ProviderReplyLimit(faas.AzureFunctions) {
		t.Errorf("a timeout of %d s that somebody wishes, and the default of %d s", wished, default_)
	}
	const want = "{enable:false provider:{type:aws-lambda region:us-east-1} default_memory_mb:1024 " +
		"default_timeout_secs:60 fallback_to_vm:true max_concurrency:7 keep_warm:2 " +
		"jobs:map[1:{memory_mb:256 timeout_secs:20 max_concurrency:0 keep_warm:0} 2:{keep_warm:5} 3:{memory_mb:256 " +
		"timeout_secs:20}]}"
	if got := fmt.Sprint(s); got != want {
		t.Errorf("printed as\n%s\nwant\n%s", got, want)
	}
}

func TestWhatGoesOtherwiseThanThePolicySaysIsTold(t *testing.T) {
	needs := map[uint32]JobNeeds{0: {MemoryMB: 1024, TimeoutSecs: 600}, 1: {MemoryMB: 128, TimeoutSecs: 10}}
	both := Strategy{Kind: StrategyServerless, FaaSJobs: []uint32{0, 1}}
	for name, tt := range map[string]struct {
		change   func(*ServerlessConfig)
		strategy Strategy
		want     []string
	}{
		"nothing but defaults": {func(*ServerlessConfig) {}, both, nil},
		"no setting at all":    {func(c *ServerlessConfig) { c.DefaultMemoryMB, c.DefaultTimeoutSecs = 0, 0 }, both, nil},
		"enough for both": {func(c *ServerlessConfig) { c.DefaultMemoryMB, c.DefaultTimeoutSecs = 1024, 600 }, both,
			nil},
		"a timeout for nothing": {func(c *ServerlessConfig) { c.DefaultTimeoutSecs = 2 }, both, []string{
			"job 0 gets a timeout of 600 s in place of the policy's 2 s, because its profile asks for it",
			"job 1 gets a timeout of 10 s in place of the policy's 2 s, because its profile asks for it",
		}},
		"memory for one of two": {func(c *ServerlessConfig) { c.DefaultMemoryMB = 256 }, both, []string{
			"job 0 gets a memory of 1024 MB in place of the policy's 256 MB, because its profile asks for it",
		}},
		"a job's own settings": {func(c *ServerlessConfig) {
			c.DefaultMemoryMB, c.Overrides = 4096, map[uint32]JobSettings{
				0: {MemoryMB: 512, TimeoutSecs: 300}, 1: {KeepWarm: new(uint32(1))}}
		}, both, []string{
			"job 0 gets a memory of 1024 MB in place of the policy's 512 MB, because its profile asks for it",
			"job 0 gets a timeout of 600 s in place of the policy's 300 s, because its profile asks for it",
		}},
		"settings without a function": {func(c *ServerlessConfig) {
			c.Overrides = map[uint32]JobSettings{1: {TimeoutSecs: 1}, 7: {MemoryMB: 512}}
		}, Strategy{Kind: StrategyHybrid, FaaSJobs: []uint32{0}, LocalJobs: []uint32{1}}, []string{
			"the policy's settings of job 1 do nothing, because it does not run on FaaS",
			"the policy has settings of job 7, which the blueprint does not have",
		}},
	} {
		cfg := DefaultPolicy().Serverless.Config()
		cfg.Jobs = needs
		tt.change(&cfg)
		if diff := cmp.Diff(tt.want, settingsWarnings(cfg, tt.strategy)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
