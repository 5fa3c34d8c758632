package main

import "errors"

// silence is never called: nobody is asked where /dev/tty does not exist.
func silence(int) error { return errors.ErrUnsupported }
