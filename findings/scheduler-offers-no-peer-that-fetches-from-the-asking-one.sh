#!/usr/bin/env bash
# d7y.io/dragonfly/v2 v2.5.1: of two peers that fetch a task at once the scheduler offers the later one the earlier one, and never
# the reverse, whatever the later one has by then.
#
# Seen: the offers of a task form a graph without cycles. `second` was offered `first`, so `first` gets `owner` alone each time it
# asks, until `second` has finished. Of a crowd that begins together, those that begin first fetch all from the owner.
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
	"sort"

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
	task      = standard.NewTask("task", "http://127.0.0.1/model", "", "", commonv2.TaskType_STANDARD, nil, nil, 200)
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

// As ScheduleCandidateParents: the peer's edges go, and each offer becomes one.
func offer(peer *standard.Peer) []string {
	must(task.DeletePeerInEdges(peer.ID))
	parents, _ := scheduler.FindCandidateParents(context.Background(), peer, set.NewSafeSet[string]())
	names := []string{}
	for _, parent := range task.AddPeerEdges(parents, peer) {
		names = append(names, parent.ID)
	}
	sort.Strings(names)
	return names
}

func main() {
	ctx := context.Background()
	must(register("owner").FSM.Event(ctx, standard.PeerEventDownloadSucceeded))
	first := register("first")
	fmt.Println("SEEN first registers:", offer(first))
	must(first.FSM.Event(ctx, standard.PeerEventDownload))
	second := register("second")
	fmt.Println("SEEN second registers:", offer(second))
	must(second.FSM.Event(ctx, standard.PeerEventDownload))
	fmt.Println("SEEN first asks again:", offer(first))
	fmt.Println("SEEN second asks again:", offer(second))
	must(second.FSM.Event(ctx, standard.PeerEventDownloadSucceeded))
	fmt.Println("SEEN first asks after second has finished:", offer(first))
}
GO
seen="$(GOFLAGS=-mod=mod go run . 2>/dev/null | sed -n 's/^SEEN //p')"
grep -E 'd7y.io/(api|dragonfly)/v2 ' go.mod
echo "$seen"
expected='first registers: [owner]
second registers: [first owner]
first asks again: [owner]
second asks again: [first owner]
first asks after second has finished: [owner second]'
[ "$seen" = "$expected" ] || { echo "changed: expected"; echo "$expected"; exit 1; }
