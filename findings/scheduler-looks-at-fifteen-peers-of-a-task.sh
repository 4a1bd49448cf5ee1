#!/usr/bin/env bash
# d7y.io/dragonfly/v2 v2.5.1: of a task's peers the scheduler looks at 15 chosen at random. Beside 300 whose download failed, it finds
# the one that has everything in one try of twenty.
#
# Seen: of 200 tries a child is offered the owner in all beside 10 failed peers, and in 7 to 10 beside 300. A registration has five
# tries, half a second apart; then the child is sent to the source, or the call fails with "scheduling exceeded RetryLimit".
# Only a manager's cluster configuration (`filterParentLimit`) changes the number.
# The script needs go; the first build takes minutes. It runs the scheduler's own code, without its servers.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
go mod init show 2>/dev/null
go get d7y.io/dragonfly/v2@v2.5.1 2>/dev/null
cat >show.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"

	commonv2 "d7y.io/api/v2/pkg/apis/common/v2"
	managertypes "d7y.io/dragonfly/v2/manager/types"
	"d7y.io/dragonfly/v2/pkg/container/set"
	"d7y.io/dragonfly/v2/pkg/types"
	"d7y.io/dragonfly/v2/scheduler/config"
	"d7y.io/dragonfly/v2/scheduler/resource/standard"
	"d7y.io/dragonfly/v2/scheduler/scheduling"
)

// A scheduler without a manager uses its defaults.
type noManager struct{ config.DynconfigInterface }

func (noManager) GetSchedulerClusterConfig() (managertypes.SchedulerClusterConfig, error) {
	return managertypes.SchedulerClusterConfig{}, errors.New("no manager")
}

var (
	task      *standard.Task
	scheduler = scheduling.New(&config.SchedulerConfig{Algorithm: "default"}, nil, nil, noManager{}, "")
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func register(name string) *standard.Peer {
	host := standard.NewHost(name, "127.0.0.1", name, name, 4000, 4000, 0, types.HostTypeNormal)
	peer := standard.NewPeer(name, task, host)
	task.StorePeer(peer)
	must(peer.FSM.Event(context.Background(), standard.PeerEventRegisterNormal))
	return peer
}

// In how many of some tries a new peer is offered the owner, beside others whose download failed.
func offers(failed, tries int) int {
	ctx := context.Background()
	name := fmt.Sprintf("task-%d", failed)
	task = standard.NewTask(name, "http://127.0.0.1/model", "", "", commonv2.TaskType_STANDARD, nil, nil, 200)
	must(register("owner").FSM.Event(ctx, standard.PeerEventDownloadSucceeded))
	for i := range failed {
		must(register(fmt.Sprintf("failed-%d", i)).FSM.Event(ctx, standard.PeerEventDownloadFailed))
	}
	child, found := register("child"), 0
	for range tries {
		if _, ok := scheduler.FindCandidateParents(ctx, child, set.NewSafeSet[string]()); ok {
			found++
		}
	}
	return found
}

func main() {
	fmt.Println("SEEN", offers(10, 200), offers(300, 200))
}
GO
read -r few many < <(GOFLAGS=-mod=mod go run . 2>/dev/null | sed -n 's/^SEEN //p')
grep -E 'd7y.io/(api|dragonfly)/v2 ' go.mod
echo "offered the owner, of 200 tries: beside 10 failed peers $few, beside 300 failed peers $many"
[ "$few" = 200 ] && [ "$many" -le 60 ] || { echo "changed: expected 200, and at most 60"; exit 1; }
