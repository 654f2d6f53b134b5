package platform

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

// userRange selects the users that functions run as. The zero value means the program's user.
type userRange struct {
	first, n uint32
	gid      uint32 // of the one user that all share
	shared   bool
}

// users assigns the numbers of a range: to a function as its user and group, and to a package as
// the group that may read it. So functions with the same package share its files, and others cannot
// see them.
type users struct {
	userRange

	mu       sync.Mutex
	next     uint32   // the first that was never used
	unused   []uint32 // those that no longer are, the longest first
	packages map[string]*packageGroup
}

type packageGroup struct {
	dir  string
	gid  uint32
	uses int
}

func newUsers(r userRange) *users {
	if r.n == 0 {
		return nil
	}
	return &users{userRange: r, next: r.first, packages: map[string]*packageGroup{}}
}

// take returns a number that is not in use. mu must be held.
func (u *users) take() (uint32, error) {
	switch {
	case u.shared:
		return u.gid, nil
	case u.next < u.first+u.n:
		u.next++
		return u.next - 1, nil
	case len(u.unused) > 0:
		id := u.unused[0]
		u.unused = u.unused[1:]
		return id, nil
	}
	return 0, notRunError(faas.ErrTooLarge, "deploy",
		"all %d users of WithUserRange are in use: a function needs one, and a package another", u.n)
}

// giveBack undoes take. mu must be held.
func (u *users) giveBack(id uint32) {
	if !u.shared {
		u.unused = append(u.unused, id)
	}
}

// assign makes a user for a function, and lets it read the function's package and directories. Call
// release when nothing runs as the user any more.
func (u *users) assign(sum, packageDir string, work workDir) (user *worker.User, release func(), err error) {
	if u == nil {
		return nil, func() {}, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	user = &worker.User{UID: u.first, GID: u.gid, Alone: !u.shared}
	if !u.shared {
		id, err := u.take()
		if err != nil {
			return nil, nil, err
		}
		user.UID, user.GID = id, id
	}
	group, err := u.openPackage(sum, packageDir)
	if err == nil {
		for _, dir := range work.all() {
			if err = os.Chown(dir, int(user.UID), int(user.GID)); err != nil {
				u.closePackage(sum)
				break
			}
		}
	}
	if err != nil {
		u.giveBack(user.UID)
		var e *faas.Error
		if !errors.As(err, &e) {
			err = storeError("%w", err)
		}
		return nil, nil, err
	}
	user.Groups = []uint32{group}
	return user, sync.OnceFunc(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.closePackage(sum)
		u.giveBack(user.UID)
	}), nil
}

// openPackage returns the group that may read the package. mu must be held.
func (u *users) openPackage(sum, dir string) (uint32, error) {
	g := u.packages[sum]
	if g == nil {
		gid, err := u.take()
		if err != nil {
			return 0, err
		}
		if err := readableBy(dir, gid); err != nil {
			u.giveBack(gid)
			return 0, err
		}
		g = &packageGroup{dir: dir, gid: gid}
		u.packages[sum] = g
	}
	g.uses++
	return g.gid, nil
}

// closePackage undoes openPackage. It makes a package that no function runs unreadable, because its
// number will become another's group. mu must be held.
func (u *users) closePackage(sum string) {
	g := u.packages[sum]
	if g.uses--; g.uses > 0 {
		return
	}
	_ = os.Chmod(g.dir, 0o700) // it may be gone
	delete(u.packages, sum)
	u.giveBack(g.gid)
}

// readableBy lets the group read the package. Everybody may read the files in it, so that only the
// directory needs a new group.
func readableBy(dir string, gid uint32) error {
	if err := os.Chown(dir, 0, int(gid)); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir || !d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o055 != 0o055 { // it was made under the program's umask
			err = os.Chmod(path, 0o755)
		}
		return err
	})
}

// admitUsers lets users other than the program's reach packages and working directories without
// being able to list them.
func (s *store) admitUsers(u *users) error {
	if u == nil {
		return nil
	}
	for _, dir := range []string{s.dir, filepath.Join(s.dir, "packages"), filepath.Join(s.dir, "work")} {
		if err := os.Chmod(dir, 0o711); err != nil {
			return openError(err)
		}
	}
	s.private = true
	packages, err := os.ReadDir(filepath.Join(s.dir, "packages"))
	for _, e := range packages {
		err = errors.Join(err, os.Chmod(s.packageDir(e.Name()), 0o700))
	}
	if err != nil {
		return openError(err)
	}
	for dir := filepath.Dir(s.dir); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return openError(err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			return faas.Errorf(faas.ErrInvalidArgument, "open", providerName,
				"the users of functions cannot enter %s, which the platform's directory %s is in: name another with WithDir", dir,
				s.dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}
