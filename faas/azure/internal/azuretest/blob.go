package azuretest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// AccountKey is the key of a storage account.
func AccountKey(account string) string {
	return base64.StdEncoding.EncodeToString([]byte("the key of storage account " + account))
}

// serveBlob is the blob service of the storage accounts, from which packages can be read.
func (s *Server) serveBlob(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/blob/"), "/")
	refuse := func(status int, code string) {
		w.Header().Set("x-ms-error-code", code)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = w.Write([]byte(`<?xml version="1.0" encoding="utf-8"?><Error><Code>` + code + `</Code></Error>`))
		}
	}
	if len(parts) != 3 || r.Method != http.MethodGet && r.Method != http.MethodHead || r.Header.Get("x-ms-version") == "" {
		s.problem("%s %s at the blob service is unknown", r.Method, r.URL.Path)
		refuse(http.StatusBadRequest, "InvalidUri")
		return
	}
	if s.fault(w, r) {
		return
	}
	account := s.accountNamed(parts[0])
	container := s.containerAt(s.web.URL + "/blob/" + parts[0] + "/" + parts[1])
	kind, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case account == nil:
		refuse(http.StatusNotFound, "ResourceNotFound") // in truth its host has no address
	case kind == "Bearer" && credential != s.storageToken:
		w.Header().Set("WWW-Authenticate", "Bearer authorization_uri="+s.web.URL+"/"+Tenant+
			"/oauth2/authorize resource_id=https://storage.azure.com")
		refuse(http.StatusUnauthorized, "InvalidAuthenticationInfo")
	case kind == "Bearer" && (s.mayNot(blobPermission) || !s.cfg.DataReader):
		refuse(http.StatusForbidden, "AuthorizationPermissionMismatch")
	case kind == "SharedKey" && !takesKeys(account):
		refuse(http.StatusForbidden, "KeyBasedAuthenticationNotPermitted")
	case kind == "SharedKey" && !isSigned(r, parts[0], credential):
		s.problem("%s %s is not signed as the blob service wants it", r.Method, r.URL.Path)
		refuse(http.StatusForbidden, "AuthenticationFailed")
	case kind != "Bearer" && kind != "SharedKey":
		refuse(http.StatusNotFound, "ResourceNotFound") // anonymous access is off
	case container == nil:
		refuse(http.StatusNotFound, "ContainerNotFound")
	default:
		s.mu.Lock()
		text, ok := s.packages[strings.ToLower(container.ID)]
		s.mu.Unlock()
		if !ok || parts[2] != "released-package.zip" {
			refuse(http.StatusNotFound, "BlobNotFound")
			return
		}
		if parts := r.Header.Get("x-ms-range"); parts != "" {
			r.Header.Set("Range", parts)
		}
		w.Header().Set("Content-Type", "application/zip")
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(text)))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
	}
}

func (s *Server) accountNamed(name string) *Resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.resources {
		if r.Type == accountType && strings.EqualFold(nameOf(r.ID), name) {
			return r
		}
	}
	return nil
}

// takesKeys reports whether a storage account can be used with its keys.
func takesKeys(account *Resource) bool {
	properties, _ := account.Body["properties"].(map[string]any)
	return properties["allowSharedKeyAccess"] != false
}

// isSigned reports whether a request without a body has a valid signature and a current date.
func isSigned(r *http.Request, account, credential string) bool {
	text := r.Method + "\n"
	for _, name := range []string{
		"Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type", "Date",
		"If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range",
	} {
		text += r.Header.Get(name) + "\n"
	}
	var own []string
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-ms-") {
			own = append(own, lower+":"+r.Header.Get(name)+"\n")
		}
	}
	slices.Sort(own)
	text += strings.Join(own, "") + "/" + account + r.URL.EscapedPath()
	key, err := base64.StdEncoding.DecodeString(AccountKey(account))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	at, err := http.ParseTime(r.Header.Get("x-ms-date"))
	return err == nil && time.Since(at).Abs() < 15*time.Minute &&
		credential == account+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
