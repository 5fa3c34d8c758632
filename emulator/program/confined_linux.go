package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What writing is to Landlock: access rights of linux/landlock.h.
const (
	writesFiles = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	writes      = writesFiles | unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
)

// Versions of Landlock: the one from which files can be moved between folders (Linux 5.19),
// and the one that knows about truncate(2) (Linux 6.2).
const (
	versionRefer    = 2
	versionTruncate = 3
)

// harmless are devices that keep nothing of what is written to them, or show it.
var harmless = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/random", "/dev/urandom"}

// landlock is the version of Landlock that the kernel has; 0 for none.
func landlock() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// Confines reports whether StartConfined confines programs on this system: it takes
// Landlock, as Linux has it from 5.19 on.
func Confines() bool { return landlock() >= versionRefer }

// StartConfined starts cmd so that it, and whatever it starts, can write only beneath the
// given folders, and to devices such as /dev/null. Reading is as before, as are the files
// that it is given open, the network and the sockets of other programs; nothing gets more
// rights than it has, as sudo would. Before Linux 6.2 it can make files elsewhere empty,
// and everywhere change the mode and the times of what is its user's. Where Confines
// reports false, cmd is started without all that.
func StartConfined(cmd *exec.Cmd, folders ...string) error {
	version := landlock()
	if version < versionRefer {
		return cmd.Start()
	}
	var missing uint64
	if version < versionTruncate {
		missing = unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	rules, err := ruleset(missing, folders)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(rules) }() // the program has what it says
	started := make(chan error)
	go func() {
		// What restricts a thread restricts the processes that it starts, and is for
		// ever: it ends with this goroutine, which does not unlock it.
		runtime.LockOSThread()
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(rules), 0, 0); errno != 0 {
				err = errno
			}
		}
		if err != nil {
			err = fmt.Errorf("confine it: %w", err)
		} else {
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}

// ruleset is the descriptor of a ruleset of Landlock, without the rights that are missing.
func ruleset(missing uint64, folders []string) (int, error) {
	handled := unix.LandlockRulesetAttr{Handled_access_fs: writes &^ missing}
	// The first member alone: all versions know it.
	made, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), unsafe.Sizeof(handled.Handled_access_fs), 0)
	if errno != 0 {
		return -1, fmt.Errorf("confine a program: %w", errno)
	}
	rules := int(made)
	allow := func(path string, rights uint64) error {
		at, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return &fs.PathError{Op: "open", Path: path, Err: err}
		}
		defer func() { _ = unix.Close(at) }() // the ruleset keeps it
		beneath := unix.LandlockPathBeneathAttr{Allowed_access: rights &^ missing, Parent_fd: int32(at)}
		if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&beneath)), 0, 0, 0); errno != 0 {
			return &fs.PathError{Op: "confine a program to", Path: path, Err: errno}
		}
		return nil
	}
	var err error
	for _, folder := range folders {
		err = errors.Join(err, allow(folder, writes))
	}
	for _, device := range harmless {
		if failed := allow(device, writesFiles); !errors.Is(failed, os.ErrNotExist) {
			err = errors.Join(err, failed)
		}
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(rules))
	}
	return rules, nil
}
