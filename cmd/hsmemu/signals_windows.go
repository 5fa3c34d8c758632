package main

import (
	"os"
	"syscall"
)

// ending are the signals that end a command tidily.
func ending() []os.Signal { return []os.Signal{syscall.SIGINT, syscall.SIGTERM} }
