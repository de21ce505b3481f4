"""Many runs of one scenario: points, policies and seeds, several runs at once, here or on a Ray cluster.

In the order of the data: points of the varied keys (`points`), a job for each run with the name of its records
(`identity`) and what it needs (`needs`), carried out (`job`) by an executor (`local`, `on_ray`), and kept (`store`);
`all_runs` has the loop.
"""
