package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "policy", Short: "Change the policy, and say what changed",
		Long: `Changes the policy file by the given flags and nothing else. It validates the policy before it saves
it, and keeps other sections of the file byte for byte. A new provider begins without the settings of
the old one.`,
		Example: `  tangle-cloud policy --serverless true --faas-provider aws-lambda --faas-aws-region us-east-1
  tangle-cloud policy --faas-memory 1024 --faas-timeout 600
  tangle-cloud policy --faas-provider custom --faas-custom-endpoint https://my-faas.example
  tangle-cloud policy --faas-provider gcp-functions --faas-gcp-project my-project
  tangle-cloud policy --faas-provider azure-functions --faas-azure-subscription 00000000-0000-0000-0000-000000000000
  tangle-cloud policy --faas-option role_arn=arn:aws:iam::123456789012:role/my-functions
  tangle-cloud policy --serverless-fallback false --dry-run`,
		Args: cobra.NoArgs,
	}
	goFlags := flag.NewFlagSet("policy", flag.ContinueOnError)
	change := serverless.BindPolicyFlags(goFlags)
	cmd.Flags().AddGoFlagSet(goFlags)
	options := cmd.Flags().StringArray("faas-option", nil,
		"`name=value`: an option of the provider (provider_config); name= removes it; may be repeated")
	dryRun := cmd.Flags().Bool("dry-run", false, "save nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		policy, err := a.policyOrDefaults()
		if err != nil {
			return err
		}
		before := view(policy)
		given := len(*options) > 0
		goFlags.VisitAll(func(f *flag.Flag) { given = given || cmd.Flags().Changed(f.Name) })
		if !given {
			return usagef("no flag says what to change: see tangle-cloud policy --help, or tangle-cloud show")
		}
		if err := change.Apply(policy); err != nil {
			return err
		}
		if err := setOptions(&policy.Serverless, *options); err != nil {
			return err
		}
		if err := policy.Validate(); err != nil {
			return err
		}
		path, err := a.policyPath()
		if err != nil {
			return err
		}
		report := policyReport{Path: path, Changed: differences(before, view(policy)), Saved: !*dryRun, Policy: view(policy),
			Notes: notes(policy.Serverless)}
		if !*dryRun {
			if err := policy.Save(serverless.WithPolicyPath(a.policyFile)); err != nil {
				return err
			}
		}
		return a.answer(report, func(w io.Writer) {
			if len(report.Changed) == 0 {
				fmt.Fprintln(w, "nothing changed: the policy says so already")
			}
			for _, c := range report.Changed {
				fmt.Fprintf(w, "%s\t%s -> %s\n", c.Field, dash(c.From), dash(c.To))
			}
			a.notes(report.Notes)
			if report.Saved {
				a.afterwards("saved in %s", path)
			} else {
				a.afterwards("nothing was saved (--dry-run)")
			}
		})
	}
	return cmd
}

type policyReport struct {
	Path    string        `json:"path"`
	Changed []fieldChange `json:"changed"`
	Saved   bool          `json:"saved"`
	Policy  policyView    `json:"policy"`
	Notes   []string      `json:"notes,omitempty"`
}

type fieldChange struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// policyView is a policy without secrets: only the names of the provider's options, and endpoints
// without credentials.
type policyView struct {
	serverless.ServerlessSettings
	ProviderConfig []string `json:"provider_config,omitempty"`
	// options are the values, to find changes. They are never shown.
	options map[string]string
}

func view(p *serverless.Policy) policyView {
	v := policyView{ServerlessSettings: p.Serverless,
		ProviderConfig: slices.Sorted(maps.Keys(p.Serverless.ProviderConfig)),
		options:        maps.Clone(p.Serverless.ProviderConfig)}
	v.ServerlessSettings.ProviderConfig = nil
	if v.Provider.Endpoint != "" {
		v.Provider.Endpoint = faas.RedactURL(v.Provider.Endpoint)
	}
	return v
}

func (v policyView) fields() [][2]string {
	return [][2]string{
		{"enable", fmt.Sprint(v.Enable)}, {"provider.type", v.Provider.Type}, {"provider.region", v.Provider.Region},
		{"provider.project_id", v.Provider.ProjectID}, {"provider.subscription_id", v.Provider.SubscriptionID},
		{"provider.endpoint", v.Provider.Endpoint},
		{"default_memory_mb", fmt.Sprint(v.DefaultMemoryMB)}, {"default_timeout_secs", fmt.Sprint(v.DefaultTimeoutSecs)},
		{"fallback_to_vm", fmt.Sprint(v.FallbackToVM)}, {"max_concurrency", zeroless(v.MaxConcurrency)},
		{"keep_warm", zeroless(v.KeepWarm)}, {"jobs", ownSettings(v.Jobs)},
	}
}

// ownSettings lists the settings of single jobs.
func ownSettings(jobs map[uint32]serverless.JobSettings) string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(jobs)) {
		out = append(out, fmt.Sprintf("%d %v", id, jobs[id]))
	}
	return strings.Join(out, ", ")
}

func zeroless(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func differences(from, to policyView) []fieldChange {
	out := []fieldChange{}
	after := to.fields()
	for i, f := range from.fields() {
		if f[1] != after[i][1] {
			out = append(out, fieldChange{f[0], f[1], after[i][1]})
		}
	}
	names := slices.Concat(slices.Collect(maps.Keys(from.options)), slices.Collect(maps.Keys(to.options)))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		old, had := from.options[name]
		now, has := to.options[name]
		shown := map[bool]string{true: "(set)", false: ""}
		switch {
		case had != has:
			out = append(out, fieldChange{"provider_config." + name, shown[had], shown[has]})
		case old != now:
			out = append(out, fieldChange{"provider_config." + name, "(set)", "(another value)"})
		}
	}
	return out
}

// setOptions sets and removes provider options. If the provider is linked, it checks them.
func setOptions(s *serverless.ServerlessSettings, options []string) error {
	info, linked := faas.Provider(s.Provider.Type)
	s.ProviderConfig = maps.Clone(s.ProviderConfig)
	for _, option := range options {
		name, value, ok := strings.Cut(option, "=")
		if !ok || name == "" {
			return usagef("--faas-option is name=value")
		}
		if value == "" {
			delete(s.ProviderConfig, name)
			continue
		}
		if s.ProviderConfig == nil {
			s.ProviderConfig = map[string]string{}
		}
		s.ProviderConfig[name] = value
	}
	if !linked || len(options) == 0 {
		return nil
	}
	_, err := faas.ParseOptions(faas.Config{Provider: s.Provider.Type, Options: s.ProviderConfig}, info.Options)
	return err
}

// notes explain valid settings that may surprise.
func notes(s serverless.ServerlessSettings) (out []string) {
	if !s.Enable {
		out = append(out, "serverless is off: every job runs traditionally; --serverless true turns it on")
	}
	if err := faas.CheckLinked(s.Provider.Type); err != nil {
		out = append(out, err.Error())
	}
	if sizes, ok := faas.ProviderMemorySizes(s.Provider.Type); ok {
		if sold := sizes.RoundUp(s.DefaultMemoryMB); sold != s.DefaultMemoryMB {
			out = append(out, fmt.Sprintf("%s sells no %d MB: functions get %d MB", s.Provider.Type, s.DefaultMemoryMB, sold))
		}
	}
	if reply := faas.ProviderReplyLimit(s.Provider.Type); reply > 0 && s.DefaultTimeoutSecs > reply {
		out = append(out, fmt.Sprintf("%s answers a caller within %d s: a timeout of %d s lets a function run on, unheard",
			s.Provider.Type, reply, s.DefaultTimeoutSecs))
	}
	return out
}

func (a *app) notes(notes []string) {
	for _, note := range notes {
		a.afterwards("note: %s", note)
	}
}

// policyPath returns the path of the policy file.
func (a *app) policyPath() (string, error) {
	if a.policyFile != "" {
		return a.policyFile, nil
	}
	return serverless.DefaultPolicyPath()
}

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show the policy, without the values of provider options",
		Example: "  tangle-cloud show\n  tangle-cloud show --json --policy deployment-policy.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			policy, err := a.policyOrDefaults()
			if err != nil {
				return err
			}
			path, err := a.policyPath()
			if err != nil {
				return err
			}
			_, serr := os.Stat(path)
			limits, _ := faas.ProviderLimits(policy.Serverless.Provider.Type)
			report := struct {
				Path    string      `json:"path"`
				Exists  bool        `json:"exists"` // false: the policy is the default
				Policy  policyView  `json:"policy"`
				Foreign []string    `json:"foreign,omitempty"` // members of the file that have no effect here
				Limits  faas.Limits `json:"limits"`
				Linked  bool        `json:"linked"`
				Notes   []string    `json:"notes,omitempty"`
			}{path, !errors.Is(serr, os.ErrNotExist), view(policy), policy.Foreign(), limits,
				faas.CheckLinked(policy.Serverless.Provider.Type) == nil, notes(policy.Serverless)}
			return a.answer(report, func(w io.Writer) {
				if report.Exists {
					fmt.Fprintf(w, "policy\t%s\n", path)
				} else {
					fmt.Fprintf(w, "policy\tdefaults: there is no %s\n", path)
				}
				for _, f := range report.Policy.fields() {
					if f[1] != "" {
						fmt.Fprintf(w, "%s\t%s\n", f[0], f[1])
					}
				}
				if len(report.Policy.ProviderConfig) > 0 {
					fmt.Fprintf(w, "provider_config\t%s (values are not shown)\n", strings.Join(report.Policy.ProviderConfig, ", "))
				}
				fmt.Fprintf(w, "limits\t%d MB, %d s, payload %d MB\n", limits.MaxMemoryMB, limits.MaxTimeoutSecs,
					limits.MaxPayloadMB)
				if len(report.Foreign) > 0 {
					fmt.Fprintf(w, "without effect\t%s\n", strings.Join(report.Foreign, ", "))
				}
				a.notes(report.Notes)
			})
		},
	}
}
