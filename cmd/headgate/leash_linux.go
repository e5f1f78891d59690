package main

import "syscall"

// leash ends a child with us, also when we are killed.
func leash(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
