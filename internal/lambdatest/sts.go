package lambdatest

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// credential is what requests are signed with.
type credential struct{ secret, token, arn, id string }

// serveSTS answers a call of STS according to who signed it.
func (s *Server) serveSTS(w http.ResponseWriter, form url.Values, caller credential) {
	const namespace = "https://sts.amazonaws.com/doc/2011-06-15/"
	switch action := form.Get("Action"); action {
	case "GetCallerIdentity":
		writeQuery(w, action, namespace, struct{ Arn, UserId, Account string }{caller.arn, caller.id, s.config.Account})
	case "AssumeRole":
		s.mu.Lock()
		defer s.mu.Unlock()
		arn, session := form.Get("RoleArn"), form.Get("RoleSessionName")
		r := s.roleOf(arn)
		if r == nil || r.arn != arn || !strings.Contains(r.trust, "arn:aws:iam::"+s.config.Account+":") {
			failf(403, "AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", caller.arn,
				arn).write(w, "sts")
			return
		}
		type credentials struct{ AccessKeyId, SecretAccessKey, SessionToken, Expiration string }
		type user struct{ AssumedRoleId, Arn string }
		key := iamID("ASIA", 16)
		c := credential{
			secret: newID(), token: newID(), id: r.id + ":" + session,
			arn: strings.NewReplacer(":iam:", ":sts:", ":role/", ":assumed-role/").Replace(arn) + "/" + session,
		}
		s.credentials[key] = c
		writeQuery(w, action, namespace, struct {
			Credentials     credentials
			AssumedRoleUser user
		}{credentials{key, c.secret, c.token, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}, user{c.id, c.arn}})
	default:
		failf(400, "InvalidAction", "Could not find operation %s for version 2011-06-15", action).write(w, "sts")
	}
}
