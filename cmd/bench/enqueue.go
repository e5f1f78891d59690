package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

const (
	enqueuers = 16   // who enqueue single jobs at the same time
	loaders   = 2    // who enqueue lists
	listSize  = 1000 // jobs of a list
)

// measureEnqueue enqueues for a time, one by one and by the list. A job counts
// when its commit is answered.
func measureEnqueue(ctx context.Context, s *stage) ([]comparison, error) {
	s.tell("enqueue, single")
	single, err := s.inPairs(ctx, func(ctx context.Context, who *side) (half, error) {
		one, err := who.one(0)
		if err != nil {
			return half{}, err
		}
		return s.enqueue(ctx, enqueuers, 1, func(ctx context.Context, n int) error { return one(ctx, jobArgs{N: n}) })
	})
	if err != nil {
		return nil, err
	}
	s.tell("enqueue, lists")
	lists, err := s.inPairs(ctx, func(ctx context.Context, who *side) (half, error) {
		return s.enqueue(ctx, loaders, listSize, func(ctx context.Context, _ int) error {
			return pgx.BeginFunc(ctx, who.pool, func(tx pgx.Tx) error { return who.many(ctx, tx, numbered(listSize)) })
		})
	})
	if err != nil {
		return nil, err
	}
	return []comparison{
		compare(measure{fmt.Sprintf("Enqueue against Insert, %d at a time", enqueuers), perSecond, half.rate}, single),
		compare(measure{fmt.Sprintf("EnqueueMany against InsertManyFast, lists of %d, %d at a time", listSize, loaders), perSecond, half.rate}, lists),
	}, nil
}

// enqueue calls one from several goroutines until the time is up. each is how
// many jobs a call makes.
func (s *stage) enqueue(ctx context.Context, goroutines, each int, one func(ctx context.Context, n int) error) (half, error) {
	var next atomic.Int64
	clock := s.start()
	end := clock.began.Add(s.opts.half())
	group, ctx := errgroup.WithContext(ctx)
	for range goroutines {
		group.Go(func() error {
			for {
				err := one(ctx, int(next.Add(1))-1)
				if err != nil || time.Now().After(end) {
					return err
				}
			}
		})
	}
	err := group.Wait()
	return clock.stop(int(next.Load()) * each), err
}
