"""Advice: the least change to a scenario that reaches a speed, and the changes that no other beats.

In the order of the data: changes (`changes`: boards, links, formats, policies; `replacements`: other boards) are
settings of the scenario, which is read and simulated with each (`simulated_figures`), one at a time and then in pairs
(`advise`); what is least and what is unbeaten is the business of `report.advice`.
"""
