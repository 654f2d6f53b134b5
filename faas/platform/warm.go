package platform

import (
	"context"
	"net/http"
	"strconv"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// warm makes sure that n processes of the function are started, and returns how many are. A
// function that is started once per call has none.
func (p *Platform) warm(ctx context.Context, id string, n int) (int, error) {
	f, err := p.lookup("warm", id)
	if err != nil {
		return 0, err
	}
	if f.broken != nil {
		return 0, notRunError(faas.ErrUnavailable, "warm", "the function could not be brought back: %w", f.broken)
	}
	return f.pool.Warm(ctx, n)
}

func (p *Platform) serveWarm(w http.ResponseWriter, r *http.Request, id string) {
	n := 1
	if text := r.URL.Query().Get("instances"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			writeErrorOf(w, id, notRunError(faas.ErrInvalidArgument, "warm", "instances=%.20q is not a number from 1 on", text))
			return
		}
	}
	warmed, err := p.warm(r.Context(), id, n)
	if err != nil {
		writeErrorOf(w, id, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"function_id": id, "status": "warm", "instances_warmed": warmed})
}
