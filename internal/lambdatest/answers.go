package lambdatest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
)

// answer is the answer of a Lambda operation.
type answer struct {
	header map[string]string
	body   any    // JSON, or nil for none
	raw    []byte // in place of body
	status int    // in place of the operation's usual one
}

func (a answer) write(w http.ResponseWriter, status int) {
	if a.status != 0 {
		status = a.status
	}
	w.Header().Set("X-Amzn-Requestid", newID())
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	if a.body == nil && a.raw == nil {
		w.WriteHeader(status)
		return
	}
	body := a.raw
	if a.body != nil {
		var err error
		if body, err = json.Marshal(a.body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body)
}

// apiError is an error of one of the services, with its official code.
type apiError struct {
	status        int
	code, message string
	reason        string // of a TooManyRequestsException
}

func failf(status int, code, format string, args ...any) *apiError {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// write writes the error in the service's protocol.
func (e *apiError) write(w http.ResponseWriter, service string) {
	switch service {
	case "s3":
		type s3Error struct {
			XMLName xml.Name `xml:"Error"`
			Code    string
			Message string
		}
		writeXML(w, e.status, s3Error{Code: e.code, Message: e.message})
	case "iam", "sts":
		type inner struct{ Type, Code, Message string }
		type queryError struct {
			XMLName   xml.Name `xml:"ErrorResponse"`
			Error     inner
			RequestId string
		}
		writeXML(w, e.status, queryError{Error: inner{"Sender", e.code, e.message}, RequestId: newID()})
	case "logs", "servicequotas":
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(e.status)
		json.NewEncoder(w).Encode(map[string]string{"__type": e.code, "message": e.message})
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Amzn-Requestid", newID())
		w.Header().Set("X-Amzn-Errortype", e.code)
		w.WriteHeader(e.status)
		body := map[string]string{"Type": "User", "message": e.message}
		if e.code == "TooManyRequestsException" {
			body["Reason"] = cmp.Or(e.reason, "CallerRateLimitExceeded")
		}
		json.NewEncoder(w).Encode(body)
	}
}

// writeJSON writes an answer of a service that speaks JSON 1.1.
func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", newID())
	json.NewEncoder(w).Encode(v)
}

// writeQuery writes an answer of a service that takes forms.
func writeQuery(w http.ResponseWriter, action, namespace string, result any) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<%sResponse xmlns=%q>", action, namespace)
	if result != nil {
		element := xml.StartElement{Name: xml.Name{Local: action + "Result"}}
		if err := xml.NewEncoder(&b).EncodeElement(result, element); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	fmt.Fprintf(&b, "<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>", newID(), action)
	w.Header().Set("Content-Type", "text/xml")
	w.Write(b.Bytes())
}

func writeXML(w http.ResponseWriter, status int, v any) {
	text, err := xml.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	w.Write(text)
}
