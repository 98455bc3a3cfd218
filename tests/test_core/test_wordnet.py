import json

import pytest

from mmdet_imbalance.core.hierarchy import ClassHierarchy
from mmdet_imbalance.core.wordnet import WordNet, synset_tree

INDEX = """\
  1 This file has a licence in indented lines.
animal n 1 1 @ 1 0 00000002
dog n 2 1 @ 2 0 00000004 00000009
entity n 1 0 1 0 00000001
fido n 1 1 @i 1 0 00000005
pet n 1 1 @ 1 0 00000003
"""
# entity > animal > dog, entity > pet > dog, dog > fido (an instance); the second dog is
# a frankfurter and stands alone.
DATA = """\
  1 This file has a licence in indented lines.
00000001 03 n 01 entity 0 000 | that which exists
00000002 03 n 02 animal 0 beast 0 001 @ 00000001 n 0000 | a living thing
00000003 03 n 01 pet 0 001 @ 00000001 n 0000 | kept at home
00000004 03 n 01 dog 0 003 @ 00000002 n 0000 @ 00000003 n 0000 #m 00000009 n 0000 | x
00000005 03 n 01 fido 0 001 @i 00000004 n 0000 | an instance
00000009 03 n 01 dog 1 000 | a sausage
"""


@pytest.fixture
def wordnet(tmp_path):
    (tmp_path / 'index.noun').write_text(INDEX)
    (tmp_path / 'data.noun').write_text(DATA)
    return WordNet(tmp_path)


def test_hypernyms_follow_both_pointers_and_no_other(wordnet):
    assert wordnet.hypernyms('00000005') == {
        '00000004',
        '00000003',
        '00000002',
        '00000001',
    }
    assert wordnet.hypernyms('00000009') == set()


def test_offsets_go_by_rank_and_unknown_names_give_none(wordnet):
    assert wordnet.offset('dog.n.01') == '00000004'
    assert wordnet.offset('Dog.n.02') == '00000009'
    assert wordnet.offset('dog.n.03') is None
    assert wordnet.offset('dog.v.01') is None
    assert wordnet.offset('cat.n.01') is None
    with pytest.raises(ValueError, match=r'dog\.n\.01'):
        wordnet.offset('dog')


def test_tree_bridges_what_is_left_out_and_repeats_children_of_two_parents(wordnet):
    names = ['fido.n.01', 'animal.n.01', 'pet.n.01', 'dog.n.02', 'cat.n.01']
    tree = synset_tree(wordnet, names)
    assert [node['LabelName'] for node in tree] == [
        'animal.n.01',
        'cat.n.01',
        'dog.n.02',
        'pet.n.01',
    ]
    hierarchy = ClassHierarchy.from_open_images_json(tree)
    assert set(hierarchy.ancestors('fido.n.01')) == {'animal.n.01', 'pet.n.01'}
    assert hierarchy.ancestors('dog.n.02') == ()


def test_missing_database_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='wordnet-base'):
        WordNet(tmp_path)


def test_the_packaged_tree_has_the_known_pairs_of_lvis(project_root, shared_data):
    tree = json.loads(
        (
            project_root / 'mmdet_imbalance/datasets/lvis_wordnet_hierarchy.json'
        ).read_text()
    )
    hierarchy = ClassHierarchy.from_open_images_json(tree)
    folder = shared_data / 'lvis_meta'
    categories = json.loads((folder / 'lvis_v1_categories.json').read_text())
    derived = json.loads(
        (folder / 'lvis_v1_wordnet_category_ancestors_derived.json').read_text()
    )
    id_of = {c['synset']: c['id'] for c in categories}
    found = {
        c['id']: {id_of[a] for a in hierarchy.ancestors(c['synset']) if a in id_of}
        for c in categories
    }
    # One category names a synset that WordNet lacks; the table leaves it out.
    assert found == {c['id']: set(derived.get(str(c['id']), [])) for c in categories}
    assert sum(map(bool, found.values())) == 421
    assert sum(map(len, found.values())) == 495
