package platform

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// victim starts a process of somebody else. If this user can make control groups, it is in one with
// a name like a platform's.
func victim(t *testing.T, env ...string) (pid int, group string) {
	t.Helper()
	group = filepath.Join(unifiedHierarchy(), "blueprint-platform-"+"victim")
	attr := &syscall.SysProcAttr{Setsid: true}
	if err := os.Mkdir(group, 0o755); err == nil {
		t.Cleanup(func() { _ = os.Remove(group) })
		dir, err := os.Open(group)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
	}
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.Env, cmd.SysProcAttr = env, attr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid, group
}

func unifiedHierarchy() string {
	for _, dir := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			return dir
		}
	}
	return "/nonexistent"
}

// Everybody can write to the directory for temporary files. The platform must neither believe, nor
// wait for, nor remove what somebody else has put there for it.
func TestNothingOfOthersInASharedDirectoryIsActedOn(t *testing.T) {
	parent := t.TempDir()
	if err := os.Chmod(parent, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", parent)
	foreign := func(path string) { // only root can give files away; anybody else's attacker is this user
		if os.Geteuid() == 0 {
			if err := os.Lchown(path, 612_399, 612_399); err != nil {
				t.Fatal(err)
			}
		}
	}
	pid, group := victim(t, "TMPDIR="+filepath.Join(parent, "blueprint-platform-foreign", "work", "x"))
	link := filepath.Join(parent, "blueprint-platform-link")
	if err := os.Symlink(group, link); err != nil {
		t.Fatal(err)
	}
	record, err := json.Marshal([]string{group, link,
		filepath.Join(parent, "blueprint-platform-foreign", "..", "blueprint-platform-link")})
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	for name, lay := range map[string]func(lock string) error{
		"record": func(lock string) error { return os.WriteFile(lock, record, 0o600) },
		"pipe":   func(lock string) error { return syscall.Mkfifo(lock, 0o600) },
		"huge": func(lock string) error {
			return errors.Join(os.WriteFile(lock, nil, 0o600), os.Truncate(lock, 1<<40))
		},
		"device": func(lock string) error { return os.Symlink("/dev/zero", lock) },
	} {
		for _, mine := range []bool{true, false} {
			dir := filepath.Join(parent, "blueprint-platform-"+name)
			if !mine {
				dir += "-foreign"
			}
			if err := errors.Join(os.MkdirAll(filepath.Join(dir, "work", "x"), 0o700),
				lay(filepath.Join(dir, "lock"))); err != nil {
				t.Fatal(err)
			}
			if !mine {
				foreign(dir)
				kept[dir] = os.Geteuid() == 0
			}
		}
	}
	// this user's, but writable by anybody
	readable := filepath.Join(parent, "blueprint-platform-readable")
	if err := errors.Join(os.MkdirAll(filepath.Join(readable, "work", "x"), 0o777),
		os.Chmod(readable, 0o777)); err != nil {
		t.Fatal(err)
	}
	kept[readable] = true
	// Locks beside a directory, too.
	if err := errors.Join(syscall.Mkfifo(filepath.Join(parent, "blueprint-platform-a.lock"), 0o600),
		os.Symlink("/dev/zero", filepath.Join(parent, "blueprint-platform-b.lock")),
		os.WriteFile(filepath.Join(parent, "blueprint-platform-c.lock"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	foreign(filepath.Join(parent, "blueprint-platform-c.lock"))

	made := make(chan error, 1)
	go func() {
		p, err := New()
		if err == nil {
			err = p.Close()
		}
		made <- err
	}()
	select {
	case err := <-made:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(aWhile):
		t.Fatal("New does not return")
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil || strings.Contains(string(stat), ") Z ") {
		t.Errorf("the process of somebody else was ended: %s %v", stat, err)
	}
	if _, err := os.Lstat(link); err != nil {
		t.Error(err)
	}
	for dir, keep := range kept {
		if _, err := os.Lstat(dir); keep && err != nil {
			t.Errorf("what is not this user's alone was removed: %v", err)
		}
	}
	if _, err := os.Lstat(filepath.Join(parent, "blueprint-platform-record")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what this user's own platform has left stays: %v", err)
	}
}

// With a directory of another user, that user's functions would run as this user.
func TestADirectoryOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 612_399, 612_399); err != nil {
		t.Fatal(err)
	}
	p, err := New(WithDir(dir))
	if err == nil {
		_ = p.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "belongs to user 612399") {
		t.Errorf("got %v", err)
	}
	for _, lay := range []func(string) error{
		func(lock string) error { return syscall.Mkfifo(lock, 0o600) },
		func(lock string) error { return os.Symlink("/dev/null", lock) },
	} {
		dir := t.TempDir()
		if err := lay(filepath.Join(dir, "lock")); err != nil {
			t.Fatal(err)
		}
		made := make(chan error, 1)
		go func() {
			p, err := New(WithDir(dir))
			if err == nil {
				err = errors.Join(errors.New("it was taken"), p.Close())
			}
			made <- err
		}()
		select {
		case err := <-made:
			if err == nil || strings.Contains(err.Error(), "it was taken") {
				t.Errorf("got %v", err)
			}
		case <-time.After(aWhile):
			t.Fatal("New does not return")
		}
	}
}
