//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// getSite reads an app. If the app does not exist, isNotFound reports true for the error.
func (e *Executor) getSite(ctx context.Context, id string) (*site, error) {
	var s site
	if err := e.call(ctx, http.MethodGet, e.sitePath(id), webAPI, nil, &s); err != nil {
		return nil, err
	}
	s.Name = id // Azure does not tell upper and lower case apart
	return &s, nil
}

// owned reads an app, and makes sure that it is the service's. The error is an ErrNotFound if the
// app does not exist, unless somebody else has its name.
func (e *Executor) owned(ctx context.Context, op, id string) (*site, error) {
	s, err := e.getSite(ctx, id)
	return e.checkSite(ctx, op, id, s, err)
}

// known is owned for an app that is known to have existed: it believes that the app is gone only
// after several answers that say so.
func (e *Executor) known(ctx context.Context, op, id string) (*site, error) {
	var s site
	err := e.find(ctx, e.sitePath(id), webAPI, &s, true)
	s.Name = id
	return e.checkSite(ctx, op, id, &s, err)
}

// checkSite is owned for the result of reading an app.
func (e *Executor) checkSite(ctx context.Context, op, id string, s *site, err error) (*site, error) {
	switch {
	case err == nil && e.owns(s.Tags):
		return s, nil
	case err == nil:
		return nil, faas.Errorf(faas.ErrConflict, op, faas.AzureFunctions,
			"app %s exists and does not carry the tags of service %q: it belongs to someone else", id, e.service)
	case !isNotFound(err):
		return nil, err
	}
	if id != e.names.app && !e.nameIsFree(ctx, id) {
		return nil, faas.Errorf(faas.ErrConflict, op, faas.AzureFunctions,
			"app %s is none of service %q, whose app is called %s", id, e.service, e.names.app)
	}
	return nil, faas.Errorf(faas.ErrNotFound, op, faas.AzureFunctions, "there is no app %s in resource group %s", id,
		e.names.group)
}

// nameIsFree reports whether no app in all of Azure has the name. If that cannot be told, it
// reports false.
func (e *Executor) nameIsFree(ctx context.Context, name string) bool {
	var answer struct {
		NameAvailable bool `json:"nameAvailable"`
	}
	err := e.call(ctx, http.MethodPost, "/subscriptions/"+e.subscription+"/providers/Microsoft.Web/checknameavailability",
		webAPI,
		map[string]any{"name": name, "type": "Microsoft.Web/sites"}, &answer)
	return err == nil && answer.NameAvailable
}

// putSite creates or changes the app, and returns it as it is then.
func (e *Executor) putSite(ctx context.Context, id string, body site) (*site, error) {
	var s site
	if err := e.operate(ctx, http.MethodPut, e.sitePath(id), webAPI, body, &s); err != nil {
		if judge(err).Class == kit.Exists {
			return nil, faas.Errorf(faas.ErrAlreadyExists, "deploy", faas.AzureFunctions,
				`the name %s is taken by another app somewhere in Azure: set the option "app_name" to a free name: %w`, id, err)
		}
		return nil, err
	}
	if s.ID == "" || s.functionHost() == "" || s.publishHost() == "" || s.Identity == nil ||
		s.Identity.PrincipalID == "" || isPending(s.Properties.ProvisioningState) {
		s = site{}
		if err := e.settled(ctx, e.sitePath(id), webAPI, &s,
			func() string { return s.Properties.ProvisioningState }); err != nil {
			return nil, err
		}
	}
	if strings.EqualFold(s.Properties.ProvisioningState, "Failed") {
		return nil, faas.Errorf(faas.ErrUnavailable, "deploy", faas.AzureFunctions,
			"Azure says that provisioning app %s failed", id)
	}
	s.Name = id
	return &s, nil
}

func isPending(provisioningState string) bool {
	switch strings.ToLower(provisioningState) {
	case "", "succeeded", "failed", "canceled":
		return false
	}
	return true
}

// setSettings corrects the application settings if making the app did not set them.
func (e *Executor) setSettings(ctx context.Context, id string, wanted faas.Env) error {
	now, err := e.settings(ctx, id)
	if err != nil || maps.EqualFunc(now, wanted, faas.Secret.Equal) {
		return err
	}
	return e.must(ctx, http.MethodPut, e.sitePath(id, "config/appsettings"), webAPI, appSettings{wanted.Reveal()}, nil)
}

// settings reads the application settings of an app that exists. They are secrets.
func (e *Executor) settings(ctx context.Context, id string) (faas.Env, error) {
	var now appSettings
	err := e.must(ctx, http.MethodPost, e.sitePath(id, "config/appsettings/list"), webAPI, nil, &now)
	return faas.NewEnv(now.Properties), err
}

// state returns the state that the tags and properties of an app describe.
func (e *Executor) state(s *site) faas.State {
	out := faas.State{
		ID: s.Name, Status: faas.StatusReady, Resource: s.ID, PackageSHA256: s.Tags[tagPackage],
		Fingerprint: s.Tags[tagFingerprint],
		Revision:    s.Properties.LastModified, Compact: isCompact(s.Tags),
	}
	if host := s.functionHost(); host != "" {
		out.Endpoint = "https://" + host + "/" + routePrefix
	}
	if jobs := parseJobs(s.Tags[tagJobs]); jobs != nil {
		out.JobIDs = slices.Sorted(maps.Keys(jobs))
	}
	if at, err := time.Parse(time.RFC3339Nano, s.Tags[tagDeployed]); err == nil {
		out.DeployedAt = at.UTC()
		out.Revision = s.Tags[tagDeployed]
	}
	if s.Tags[tagOptions] != e.options.digest() {
		out.Fingerprint = "" // the app was made with other options, so it is not what is wanted whatever the unit says
	}
	switch {
	case isPending(s.Properties.ProvisioningState):
		out.Status, out.Reason = faas.StatusPending,
			"Azure says that its provisioning state is "+sanitize.Line(s.Properties.ProvisioningState, 40)
	case strings.EqualFold(s.Properties.ProvisioningState, "Failed"):
		out.Status, out.Reason = faas.StatusFailed, "Azure says that its provisioning failed"
	case s.Properties.State != "" && !strings.EqualFold(s.Properties.State, "Running"):
		out.Status, out.Reason = faas.StatusFailed, "the app is "+sanitize.Line(strings.ToLower(s.Properties.State), 40)
	case s.Tags[tagFingerprint] == "" || s.Tags[tagPackage] == "":
		out.Status, out.Reason = faas.StatusPending, "a deployment of the app was begun and not finished"
	}
	out.NotRestorable = notRestorable(out, s.Tags[tagAccess])
	return out
}

// notRestorable says why an app in a state could not be restored. access is what the last
// deployment has found out about its package.
func notRestorable(s faas.State, access string) string {
	why, no := strings.CutPrefix(access, accessNone)
	switch {
	case s.Status != faas.StatusReady:
		return "the app is not whole: " + s.Reason
	case access == accessToken || access == accessKey:
		return ""
	case no:
		return "Azure keeps the app's package in its storage account alone, and the last deployment could not read it " +
			"there (" + sanitize.Line(why, maxTagValue) + "): give the caller the role Storage Blob Data Reader on it, " +
			"or the right to list its keys, and deploy"
	}
	return "it is not known whether the app's package can be read back from its storage account: whoever deployed it " +
		"left no note of that"
}

// removeSite removes the app. It tells Azure not to remove the plan with its last app; removePlan
// does that, so that it can be waited for.
func (e *Executor) removeSite(ctx context.Context, id string) error {
	return e.remove(ctx, e.sitePath(id)+"?deleteEmptyServerFarm=false", webAPI, nil)
}
