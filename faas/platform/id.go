package platform

import (
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// maxID is the longest function id.
const maxID = 128

// checkID returns nil for an id of letters, digits, dots, dashes and underscores that begins with a
// letter or digit.
func checkID(id string) error {
	ok := id != "" && len(id) <= maxID
	for i := 0; ok && i < len(id); i++ {
		c := id[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = alnum || i > 0 && (c == '.' || c == '-' || c == '_')
	}
	if !ok {
		return notRunError(faas.ErrInvalidArgument, "check id",
			"function id %.60q is not 1 to %d letters, digits, dots, dashes and underscores that begin with a letter or digit",
			id, maxID)
	}
	return nil
}

// keyedMutex is a mutex for each key. The zero value is ready to use.
type keyedMutex struct {
	mu   sync.Mutex
	keys map[string]*keyLock
}

type keyLock struct {
	sync.Mutex
	users int
}

// lock locks the key and returns the function that unlocks it.
func (k *keyedMutex) lock(key string) func() {
	k.mu.Lock()
	l := k.keys[key]
	if l == nil {
		if k.keys == nil {
			k.keys = map[string]*keyLock{}
		}
		l = &keyLock{}
		k.keys[key] = l
	}
	l.users++
	k.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.keys, key)
		}
	}
}
