"""Laws of the class hierarchy, against brute-force reachability and real labels."""

import csv
import json
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_imbalance.core.hierarchy import ClassHierarchy


def reachable(edges, start):
    """Everything above `start`, itself included, by walking every path."""
    found, todo = {start}, [start]
    while todo:
        node = todo.pop()
        for child, parent in edges:
            if child == node and parent not in found:
                found.add(parent)
                todo.append(parent)
    return found


@st.composite
def acyclic_edges(draw):
    """Edges from lower to higher numbers under a random renaming: never a cycle."""
    num = draw(st.integers(1, 9))
    names = draw(st.permutations([f'n{i}' for i in range(num)]))
    pairs = [(a, b) for a in range(num) for b in range(a + 1, num)]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=14)) if pairs else []
    return names, [(names[a], names[b]) for a, b in chosen]


@settings(deadline=None, max_examples=150)
@given(acyclic_edges(), st.data())
def test_ancestor_matrix_is_reachability_in_any_vocabulary(graph, data):
    names, edges = graph
    vocabulary = data.draw(st.lists(st.sampled_from(names), unique=True))
    hierarchy = ClassHierarchy(edges, nodes=names)
    matrix = hierarchy.ancestor_matrix(vocabulary)
    assert matrix.dtype == bool
    assert matrix.shape == (len(vocabulary), len(vocabulary))
    for i, child in enumerate(vocabulary):
        above = reachable(edges, child)
        assert [vocabulary[j] for j in np.flatnonzero(matrix[i])] == [
            name for name in vocabulary if name in above
        ]
        assert set(hierarchy.ancestors(child)) == above - {child}
    np.testing.assert_array_equal(hierarchy.descendant_matrix(vocabulary), matrix.T)


@settings(deadline=None, max_examples=60)
@given(acyclic_edges())
def test_closure_is_idempotent_and_edge_order_is_irrelevant(graph):
    names, edges = graph
    matrix = ClassHierarchy(edges, names).ancestor_matrix(names)
    np.testing.assert_array_equal(matrix @ matrix, matrix)
    again = ClassHierarchy([*edges[::-1], *edges], names).ancestor_matrix(names)
    np.testing.assert_array_equal(again, matrix)


@settings(deadline=None, max_examples=60)
@given(acyclic_edges(), st.data())
def test_an_edge_back_from_an_ancestor_is_refused_with_a_true_cycle(graph, data):
    names, edges = graph
    node = data.draw(st.sampled_from(names))
    ancestor = data.draw(st.sampled_from(sorted(reachable(edges, node))))
    edges = [*edges, (ancestor, node)]
    with pytest.raises(ValueError, match='cycle') as error:
        ClassHierarchy(edges, names)
    cycle = str(error.value).rsplit(': ', 1)[1].split(' -> ')
    assert cycle[0] == cycle[-1]
    assert all(step in edges for step in pairwise(cycle))


def test_children_listed_under_two_parents_have_both():
    tree = {
        'LabelName': 'root',
        'Subcategory': [
            {'LabelName': 'a', 'Subcategory': [{'LabelName': 'x'}]},
            {'LabelName': 'b', 'Subcategory': [{'LabelName': 'x'}]},
        ],
    }
    hierarchy = ClassHierarchy.from_open_images_json(tree)
    assert hierarchy.parents('x') == ('a', 'b')
    assert hierarchy.children('b') == ('x',)
    assert hierarchy.ancestor_matrix(['x', 'a', 'b'])[0].all()


def test_part_is_no_ancestor_but_keeps_its_own_subcategories():
    tree = {
        'LabelName': 'car',
        'Part': [{'LabelName': 'wheel', 'Subcategory': [{'LabelName': 'spare'}]}],
    }
    hierarchy = ClassHierarchy.from_open_images_json(tree)
    assert hierarchy.ancestors('wheel') == ()
    assert hierarchy.ancestors('spare') == ('wheel',)


def test_cycle_through_nested_places_is_named():
    tree = {
        'LabelName': 'a',
        'Subcategory': [{'LabelName': 'b', 'Subcategory': [{'LabelName': 'a'}]}],
    }
    with pytest.raises(ValueError, match=r'a -> b -> a|b -> a -> b'):
        ClassHierarchy.from_open_images_json(tree)


def test_a_class_below_itself_is_a_cycle():
    with pytest.raises(ValueError, match='a -> a'):
        ClassHierarchy([('a', 'a')])


def test_depth_is_not_limited_by_the_interpreter():
    tree = {'LabelName': 'n0'}
    node = tree
    for k in range(1, 3000):
        node['Subcategory'] = [{'LabelName': f'n{k}'}]
        node = node['Subcategory'][0]
    hierarchy = ClassHierarchy.from_open_images_json(tree)
    assert hierarchy.ancestor_matrix(['n2999', 'n0'])[0, 1]


def test_inner_nodes_above_leave_out_roots_and_the_classes_themselves():
    edges = [('fish', 'animal'), ('shark', 'fish'), ('animal', 'entity')]
    hierarchy = ClassHierarchy(edges)
    assert hierarchy.inner_nodes_above(['shark']) == ('fish', 'animal')
    assert hierarchy.inner_nodes_above(['shark', 'fish']) == ('animal',)


def test_unknown_names_are_named_with_the_nearest():
    hierarchy = ClassHierarchy([('Tennis ball', 'Ball')], source='tree.json')
    with pytest.raises(ValueError, match=r"tree.json: 'TennisBall' .*'Tennis ball'"):
        hierarchy.ancestor_matrix(['TennisBall', 'Ball'])
    with pytest.raises(ValueError, match="'Bat'"):
        hierarchy.ancestors('Bat')
    lonely = hierarchy.ancestor_matrix(['TennisBall', 'Ball'], allow_unknown=True)
    np.testing.assert_array_equal(lonely, np.eye(2, dtype=bool))


def test_repeated_class_is_refused():
    with pytest.raises(ValueError, match=r"\['a'\] twice"):
        ClassHierarchy([('a', 'b')]).ancestor_matrix(['a', 'b', 'a'])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"LabelName": "a",\n "Subcategory": [}', 'line 2'),
        ('{"LabelName": "a", "Subcategory": [{"Name": "b"}]}', 'has no "LabelName"'),
        ('{"LabelName": "a", "Subcategory": {"LabelName": "b"}}', 'must be a list'),
        ('{"LabelName": "a", "Subcategory": ["b"]}', 'must be an object'),
        ('{"LabelName": 3}', 'non-empty text'),
        ('{"LabelName": "a", "Subcategory": [', 'not valid JSON'),
    ],
)
def test_broken_files_are_refused_with_their_place(tmp_path, text, message):
    path = tmp_path / 'tree.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        ClassHierarchy.from_open_images_json(path)
    assert 'tree.json' in str(error.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'absent\.json'):
        ClassHierarchy.from_open_images_json(tmp_path / 'absent.json')


def test_byte_order_mark_is_read_over(tmp_path):
    path = tmp_path / 'tree.json'
    path.write_text('{"LabelName": "a"}', encoding='utf-8-sig')
    assert ClassHierarchy.from_open_images_json(path).nodes == ('a',)


# --- real data ------------------------------------------------------------------


@pytest.fixture(scope='module')
def open_images(shared_data):
    folder = shared_data / 'open_images_meta'
    hierarchy = ClassHierarchy.from_open_images_json(
        folder / 'bbox_labels_600_hierarchy.json'
    )
    with open(folder / 'class-descriptions-boxable.csv', newline='') as file:
        mids = {name: mid for mid, name in csv.reader(file)}
    return folder, hierarchy, mids


def test_every_real_label_set_is_closed_under_the_ancestors(open_images):
    folder, hierarchy, mids = open_images
    # The annotation spells them as Open Images does, the class list does not.
    for name in ('Tennis ball', 'Golf ball', 'Cricket ball'):
        mids[name] = mids.pop(name.replace(' b', 'B'))
    boxes = defaultdict(set)
    with open(folder / 'zfturbo_oid500_val_subset_annotations.csv', newline='') as file:
        for row in csv.DictReader(file):
            if row['LabelName']:
                place = tuple(
                    row[k] for k in ('ImageID', 'XMin', 'XMax', 'YMin', 'YMax')
                )
                boxes[place].add(mids[row['LabelName']])
    assert len(boxes) == 23509 - 1  # the last line of the file holds an image only
    challenge = json.loads((folder / 'oid_challenge500_categories.json').read_text())
    classes = [category['freebase_id'] for category in challenge]
    label = {mid: i for i, mid in enumerate(classes)}
    matrix = hierarchy.ancestor_matrix(classes)
    present = np.zeros((len(boxes), len(classes)), dtype=bool)
    for row, mids_of_box in zip(present, boxes.values(), strict=True):
        row[[label[mid] for mid in mids_of_box]] = True
    np.testing.assert_array_equal(present @ matrix, present)
    assert (present.sum(axis=1) > 1).any()


def test_challenge_ancestors_equal_the_published_list(open_images):
    folder, hierarchy, _ = open_images
    expected = json.loads(
        (folder / 'oid_challenge500_ancestors_derived.json').read_text()
    )
    classes = list(expected)
    matrix = hierarchy.ancestor_matrix(classes)
    for i, mid in enumerate(classes):
        found = {classes[j] for j in np.flatnonzero(matrix[i])} - {mid}
        assert found == set(expected[mid]), mid


def test_full_hierarchy_covers_the_class_list_and_has_several_parents(open_images):
    _, hierarchy, mids = open_images
    matrix = hierarchy.ancestor_matrix(list(mids.values()))
    assert matrix.shape == (601, 601)
    assert sum(len(hierarchy.parents(name)) > 1 for name in hierarchy.nodes) == 45
    assert hierarchy.roots == ('/m/0bl9f',)


def test_bpmn_inner_nodes_are_bridged(shared_data):
    folder = shared_data / 'hdbpmn'
    hierarchy = ClassHierarchy.from_open_images_json(folder / 'hierarchy.json')
    categories = json.loads((folder / 'train.json').read_text())['categories']
    names = [category['name'] for category in categories]
    assert len(names) == 22
    # No annotated class is an inner node: without the inner nodes nothing is implied.
    np.testing.assert_array_equal(
        hierarchy.ancestor_matrix(names), np.eye(22, dtype=bool)
    )
    inner = hierarchy.inner_nodes_above(names)
    assert 'gateway' in inner
    assert 'element' not in inner
    matrix = hierarchy.ancestor_matrix([*names, *inner])
    names += inner
    assert matrix[names.index('startEvent:timer'), names.index('event')]
    assert not matrix[names.index('event'), names.index('startEvent:timer')]


def test_aquarium_tree_bridges_the_invertebrates(shared_data):
    folder = shared_data / 'aquarium' / 'open_images'
    hierarchy = ClassHierarchy.from_open_images_json(
        folder / 'bbox_labels_hierarchy.json'
    )
    jellyfish, animal, fish = '/m/0d8zb', '/m/0jbk', '/m/0ch_cf'
    matrix = hierarchy.ancestor_matrix([jellyfish, animal, fish])
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 1]]
